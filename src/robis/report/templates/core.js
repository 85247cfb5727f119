"use strict";
// Data files of the page call robis.take(name, data): a page on disk may load scripts, but not fetch files.
const robis = (() => {
  const waiting = new Map();
  const loads = new Map();

  function take(name, data) {
    waiting.get(name)?.(data);
  }

  function load(group, name) {
    const key = `${group.key}/${name}`;
    if (!loads.has(key)) {
      loads.set(key, new Promise((resolve, reject) => {
        waiting.set(key, resolve);
        const script = document.createElement("script");
        script.src = `${group.folder}/${name}.js`;
        script.onerror = () => {
          loads.delete(key);
          reject(new Error(`${script.getAttribute("src")} cannot be loaded. Keep the assets folder beside the page.`));
        };
        document.head.append(script);
      }));
    }
    return loads.get(key);
  }

  return { take, load };
})();

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const number = (value) => Number(value.toPrecision(4)).toString();
const rounded = (value) => (value === null ? "–" : number(value));
const percent = (value) => (100 * value).toFixed(1);
const slug = (name) => name.replaceAll(" ", "-");

// An element with properties and children; text is always text, whatever it holds.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
  if (chosen !== undefined && entries.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

function trouble(error) {
  $("trouble").textContent = error.message ?? String(error);
  $("trouble").hidden = false;
  console.error(error);
}

// Preferences that outlast a reload; a browser may refuse to keep them.
const kept = {
  get(name) {
    try { return localStorage.getItem(`robis-${name}`); } catch { return null; }
  },
  set(name, value) {
    try { localStorage.setItem(`robis-${name}`, value); } catch { return false; } // then it lasts as long as the page
    return true;
  },
};

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
}

function startTheme() {
  const themes = ["auto", "light", "dark"];
  showTheme(themes.includes(kept.get("theme")) ? kept.get("theme") : "auto");
  $("theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    kept.set("theme", next);
    showTheme(next);
  });
}

// The place in the page is its address: #overview, #figures/GROUP, #images/GROUP/RUN[/OTHER RUN], #run; from 1.
function place() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  return { view, numbers: rest.map((part) => Number.parseInt(part, 10) - 1) };
}

function go(view, ...numbers) {
  const target = `#${[view, ...numbers.filter((n) => n !== undefined && n >= 0).map((n) => n + 1)].join("/")}`;
  if (location.hash !== target) location.hash = target;
  else show();
}
