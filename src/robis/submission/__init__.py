"""The upload to the MVTec AD 2 server: what it holds, its check, and how it is packed."""
