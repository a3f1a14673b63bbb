// Elements from data. Text reaches the page as text nodes only.

import { shown } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : document.createTextNode(shown(child)));
  }
  return element;
}

export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function table(columns, rows, empty) {
  if (!rows.length) return el("p", { class: "dim" }, empty);
  const head = el("tr", {}, columns.map((c) => el("th", { scope: "col", class: c.class }, c.name)));
  const body = rows.map((row) =>
    el("tr", {}, columns.map((c) => el("td", { class: c.class }, c.cell(row)))),
  );
  return el("table", {}, el("thead", {}, head), el("tbody", {}, body));
}
