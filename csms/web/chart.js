// The power chart: building, cars at risk and cars on track stacked under the site's limit; what
// was measured as a line; prices as bars below. Steps, because plans are steps.

import { svg } from "./dom.js";
import { clockOf, kw, price } from "./format.js";

const WIDTH = 1100;
const TOP = 22;
const POWER_H = 250;
const GAP = 34;
const PRICE_H = 56;
const LEFT = 62;
const RIGHT = 12;
const HEIGHT = TOP + POWER_H + GAP + PRICE_H + 26;
const HOUR = 3600e3;

const ms = (at) => new Date(at).getTime();

function niceStep(max) {
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((step) => step >= raw) || raw;
}

function slotsOf(live) {
  const plan = live.plan;
  if (!plan) return [];
  const risky = new Set(
    live.sessions.filter((s) => !["ready", "on_track"].includes(s.readiness)).map((s) => s.session_id),
  );
  return plan.edges_at.slice(0, -1).map((at, k) => {
    let onTrack = 0;
    let atRisk = 0;
    for (const row of plan.sessions) {
      if (risky.has(row.session_id)) atRisk += row.power_kw[k] || 0;
      else onTrack += row.power_kw[k] || 0;
    }
    return {
      from: ms(at),
      to: ms(plan.edges_at[k + 1]),
      base: plan.base_load_kw[k] || 0,
      limit: plan.limit_kw[k],
      price: plan.price_eur_per_kwh[k],
      atRisk,
      onTrack,
    };
  });
}

export function drawPower(holder, readout, live) {
  const slots = slotsOf(live);
  const now = ms(live.at);
  const measured = live.measured.map((m) => ({ from: ms(m.starts_at), kw: m.power_kw }));
  const start = Math.min(now - 2 * HOUR, ...measured.slice(0, 1).map((m) => m.from));
  const end = Math.max(now + 6 * HOUR, ...slots.slice(-1).map((s) => s.to));
  const limit = live.site.limit_kw;
  const highest = Math.max(
    limit,
    1,
    ...slots.map((s) => s.base + s.atRisk + s.onTrack),
    ...measured.map((m) => m.kw),
  );
  const step = niceStep(highest * 1.08);
  const top = Math.ceil((highest * 1.04) / step) * step;
  const x = (t) => LEFT + ((t - start) / (end - start)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + POWER_H - (Math.max(value, 0) / top) * POWER_H;
  const clock = clockOf(live.site.time_zone);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  root.append(svg("title", {}, `Power of ${live.site.name}, limit ${kw(limit)}`));

  for (let value = 0; value <= top + 1e-9; value += step) {
    root.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, kw(value)));
  }
  const hours = (end - start) / HOUR > 18 ? 2 : 1;
  for (let t = Math.ceil(start / (hours * HOUR)) * hours * HOUR; t <= end; t += hours * HOUR) {
    root.append(svg("text", { x: x(t), y: HEIGHT - 6, "text-anchor": "middle" }, clock.time(t)));
  }
  drawSlots(root, slots, x, y);
  drawPrices(root, slots, x);
  const drawn = slots.length
    ? slots.map((s, k) => `${k ? "L" : "M"}${x(k ? s.from : start)},${y(s.limit)}L${x(s.to)},${y(s.limit)}`).join("")
    : `M${x(start)},${y(limit)}L${x(end)},${y(limit)}`;
  root.append(svg("path", { class: "s-limit", d: drawn }));
  if (measured.length) root.append(svg("path", { class: "s-measured", d: stepped(measured, now, x, y) }));
  root.append(svg("line", { class: "s-now", x1: x(now), x2: x(now), y1: TOP - 6, y2: HEIGHT - 22 }));
  root.append(svg("text", { x: x(now) - 4, y: TOP - 8, "text-anchor": "end" }, "now"));
  const cursor = svg("line", { class: "s-cursor", y1: TOP - 6, y2: HEIGHT - 22, visibility: "hidden" });
  root.append(cursor);
  follow(holder, root, readout, { slots, x, cursor, clock, start, end });
  holder.replaceChildren(root);
}

function drawSlots(root, slots, x, y) {
  for (const s of slots) {
    let from = 0;
    for (const [kind, value] of [["base", s.base], ["risk", s.atRisk], ["plan", s.onTrack]]) {
      if (value <= 0) continue;
      const high = y(from + value);
      root.append(
        svg("rect", {
          class: `f-${kind}`, x: x(s.from), y: high,
          width: Math.max(x(s.to) - x(s.from) - 0.6, 0.5), height: y(from) - high,
        }),
      );
      from += value;
    }
  }
}

function drawPrices(root, slots, x) {
  const prices = slots.map((s) => s.price).filter((p) => p !== null && p !== undefined);
  if (!prices.length) return;
  const low = Math.min(0, ...prices);
  const span = Math.max(...prices, 0.01) - low;
  const floor = TOP + POWER_H + GAP + PRICE_H;
  const y = (p) => floor - ((p - low) / span) * PRICE_H;
  root.append(svg("text", { x: LEFT - 8, y: floor - PRICE_H + 10, "text-anchor": "end" }, "€/kWh"));
  for (const s of slots) {
    const [a, b] = [y(Math.max(s.price, 0)), y(Math.min(s.price, 0))];
    root.append(
      svg("rect", {
        class: "f-price", x: x(s.from), y: a,
        width: Math.max(x(s.to) - x(s.from) - 0.6, 0.5), height: Math.max(b - a, 1),
      }),
    );
  }
}

function stepped(measured, now, x, y) {
  let path = "";
  measured.forEach((m, k) => {
    const gap = k > 0 && m.from - measured[k - 1].from > 1000 * 60 * 20;
    const to = Math.min(m.from + HOUR / 4, now);
    path += `${k === 0 || gap ? "M" : "L"}${x(m.from)},${y(m.kw)}L${x(Math.max(to, m.from))},${y(m.kw)}`;
  });
  return path;
}

function follow(holder, root, readout, { slots, x, cursor, clock, start, end }) {
  const say = (k) => {
    const s = slots[k];
    if (!s) return;
    holder.dataset.slot = String(k);
    cursor.setAttribute("x1", x(s.from));
    cursor.setAttribute("x2", x(s.from));
    cursor.setAttribute("visibility", "visible");
    readout.textContent =
      `${clock.day(s.from)} planned: building ${kw(s.base)}, at risk ${kw(s.atRisk)}, ` +
      `on track ${kw(s.onTrack)}, limit ${kw(s.limit)}, price ${price(s.price)}`;
  };
  const at = (event) => {
    const box = root.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * WIDTH;
    const t = start + ((inside - LEFT) / (WIDTH - LEFT - RIGHT)) * (end - start);
    say(slots.findIndex((s) => s.from <= t && t < s.to));
  };
  root.addEventListener("pointermove", at);
  root.addEventListener("pointerdown", at);
  holder.onkeydown = (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const k = Number(holder.dataset.slot ?? -1) + move;
    say(Math.min(Math.max(k, 0), slots.length - 1));
  };
}
