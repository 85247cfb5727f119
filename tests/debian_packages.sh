#!/bin/sh
# Install the Debian packages that some tests need, where that is possible: as root, with apt-get. Where it is not, say
# so and succeed: tests that need them then skip. No service is started.
#
# tests/debian_packages.sh NAME 'PROGRAM ...' PACKAGE ...    installs the packages unless every program is there
set -u
name=$1
programs=$2
shift 2
missing=''
for program in $programs; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
why=''
[ "$(id -u)" = 0 ] || why='not root'
command -v apt-get >/dev/null || why='no apt-get'
if [ -n "$why" ]; then
    echo "$name is not installed ($why): tests that need it will be skipped."
    exit 0
fi
echo "Installing $name for the tests (missing:$missing)"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then # without it, dpkg starts the daemons
    # dash runs no EXIT trap when a signal ends it.
    trap 'rm -f "$policy"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y --no-install-recommends "$@"; }
if ! { install "$@" || { apt-get update && install "$@"; }; } >"$log" 2>&1; then
    tail -n 5 "$log"
    echo "$name could not be installed: tests that need it will be skipped."
fi
rm -f "$log"
