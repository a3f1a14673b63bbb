// The first page: one site, live. Readiness first; old data never look new.

import { LoginNeeded, follow, get, setToken, takeToken } from "./api.js";
import { drawPower } from "./chart.js";
import { drawCircuits, limitsTile, siteLimit } from "./circuits.js";
import { el, table } from "./dom.js";
import { READINESS, clockOf, kw, kwh, percent, price } from "./format.js";

const STALE_MS = 3000;
const REFRESH_MS = 1000;
// Working out every worst case costs the server more than the rest of the page.
const CUT_OFF_MS = 5000;
const $ = (id) => document.getElementById(id);

let siteId = null;
let stream = null;
let heardAt = 0;
let lostSince = null;
let refresh = null;
let shownLive = null;
let safe = null;
let safeRefresh = null;
let clock = clockOf("UTC");

const LEGEND = [
  ["base", "Building"], ["risk", "At risk"], ["plan", "On track"],
  ["line", "Site limit"], ["measured", "Measured (cars)"],
];

function showLogin(words = "") {
  stream?.abort();
  stream = null;
  $("login").hidden = false;
  $("page").hidden = true;
  $("leave").hidden = true;
  $("refused").textContent = words;
  $("live").className = "live";
  $("live").textContent = "Not connected";
  $("sites").replaceChildren();
  $("token").focus();
}

function showPage() {
  $("login").hidden = true;
  $("page").hidden = false;
  $("leave").hidden = false;
}

function tile(label, value, more) {
  return el("div", { class: "tile" },
    el("div", { class: "label" }, label),
    el("span", { class: "value" }, value),
    more ? el("span", { class: "more" }, more) : null);
}

function building(live) {
  const words = [`building ${kw(live.site.building_load_kw)}`];
  for (const meter of live.meters) {
    if (meter.is_silent) words.push(`! meter ${meter.meter} is silent`);
    else if (meter.kind === "solar") words.push(`sun ${kw(meter.counts_kw)}`);
  }
  return words.join(", ");
}

function tiles(live) {
  const site = live.site;
  const ready = live.sessions.filter((s) => ["ready", "on_track"].includes(s.readiness)).length;
  const slot = live.plan?.price_eur_per_kwh ?? [];
  const cheapest = slot.length ? slot.indexOf(Math.min(...slot)) : -1;
  const nextLow = cheapest >= 0 ? `${price(slot[cheapest])} at ${clock.time(live.plan.edges_at[cheapest])}` : "";
  const [most, whose] = siteLimit(live);
  $("tiles").replaceChildren(
    tile("Power now (cars)", kw(site.measured_kw), `planned ${kw(site.planned_kw)}`),
    tile("Site limit", most, whose + building(live)),
    tile("Planned peak", kw(site.peak_kw), "with the building"),
    tile("Limits", ...limitsTile(live, safe)),
    tile("Ready on time", `${ready} / ${live.sessions.length}`, site.shortfall_kwh > 0 ? `short ${kwh(site.shortfall_kwh)}` : ""),
    tile("Price now", price(slot[0]), nextLow),
  );
}

function readiness(session) {
  const [sign, word, tone] = READINESS[session.readiness] ?? ["", session.readiness, ""];
  const share = session.ready_share === null ? "" : ` ${percent(session.ready_share)}`;
  const short = session.shortfall_kwh > 0 ? `, short ${kwh(session.shortfall_kwh)}` : "";
  return el("span", { class: `tag ${tone}` }, `${sign} ${word}${share}${short}`);
}

function sessions(live) {
  const columns = [
    { name: "Ready?", class: "ready", cell: readiness },
    { name: "Who", cell: (s) => s.holder_name || s.holder_hint || "–" },
    { name: "Vehicle", cell: (s) => s.vehicle_name || "–" },
    { name: "Where", cell: (s) => `${s.station_id} / ${s.evse_id}` },
    { name: "Departs", cell: (s) => (s.departs_at ? clock.day(s.departs_at) : "–") },
    { name: "Need", class: "n", cell: (s) => kwh(s.need_kwh) },
    { name: "Energy", class: "n", cell: (s) => kwh(s.energy_kwh) },
    { name: "Allowed", class: "n", cell: (s) => kw(s.allowed_kw) },
    { name: "Measured", class: "n", cell: (s) => kw(s.measured_kw) },
    { name: "Battery", class: "n", cell: (s) => percent(s.soc) },
    { name: "Why", class: "wrap", cell: (s) => s.reason || "–" },
  ];
  $("sessions").replaceChildren(table(columns, live.sessions, "No vehicle is plugged in."));
}

function linkTag(station) {
  const online = station.link_state === "online";
  const seen = station.last_seen_at ? ` since ${clock.time(station.last_seen_at)}` : "";
  return el("span", { class: `tag ${online ? "ok" : "miss"}` }, online ? "✓ online" : `⌁ offline${seen}`);
}

function stations(live) {
  const columns = [
    { name: "Station", cell: (s) => s.name || s.station_id },
    { name: "Link", cell: linkTag },
    { name: "OCPP", cell: (s) => s.version || "–" },
    { name: "Make", cell: (s) => `${s.vendor} ${s.model}`.trim() || "–" },
    { name: "Hands off", cell: (s) => (s.automation ? "" : el("span", { class: "tag risk" }, "! automation off")) },
    {
      name: "EVSEs", class: "wrap",
      cell: (s) => s.evses.map((e) =>
        el("span", { class: "evse" }, `${e.evse_id}: ${e.status}${e.error_code && e.error_code !== "NoError" ? ` (${e.error_code})` : ""}, ${kw(e.max_kw)}`)),
    },
  ];
  const help = "No station is registered at this site yet.";
  $("stations").replaceChildren(table(columns, live.stations, help));
}

function plan(live) {
  const p = live.plan;
  if (!p) {
    $("plan").replaceChildren(el("p", { class: "dim" }, "No plan yet: one is made when a vehicle plugs in."));
    return;
  }
  const facts = [
    ["Made", `${clock.exact(p.made_at)} because: ${p.why || "–"}`],
    ["Status", `${p.status} (${p.strategy})`],
    ["Peak", `${kw(p.peak_kw)} of ${kw(live.site.limit_kw)}`],
    ["Cost", `${p.cost_eur.toFixed(2)} €`],
    ["Short", kwh(p.shortfall_kwh)],
    ...p.notes.map((note) => ["Note", note]),
  ];
  $("plan").replaceChildren(el("dl", { class: "facts" }, facts.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])));
}

function render(live) {
  shownLive = live;
  clock = clockOf(live.site.time_zone);
  $("site-name").textContent = live.site.name || live.site.site_id;
  tiles(live);
  drawPower($("chart"), $("readout"), live);
  sessions(live);
  drawCircuits($("circuits"), $("cut-off"), live, safe, clock);
  stations(live);
  plan(live);
}

function heard() {
  heardAt = performance.now();
}

function watchAge() {
  if (!stream) return;
  const age = performance.now() - heardAt;
  const live = $("live");
  if (age <= STALE_MS) {
    lostSince = null;
    live.className = "live on";
    live.textContent = `Live, ${Math.round(age / 1000)} s`;
  } else {
    lostSince ??= new Date(Date.now() - age);
    live.className = "live off";
    live.textContent = "Reconnecting";
    $("stale").textContent = `Connection lost since ${lostSince.toLocaleTimeString("en-GB")}. What is shown is as of then.`;
  }
  $("stale").hidden = lostSince === null;
  document.body.classList.toggle("is-stale", lostSince !== null);
}

function changed() {
  // Merged: a busy site is drawn at most once a second.
  refresh ??= setTimeout(async () => {
    refresh = null;
    try {
      render(await get(`sites/${encodeURIComponent(siteId)}/live`));
    } catch (error) {
      if (error instanceof LoginNeeded) showLogin(error.message);
    }
  }, REFRESH_MS);
  safeRefresh ??= setTimeout(() => {
    safeRefresh = null;
    readCutOff();
  }, CUT_OFF_MS);
}

async function readCutOff() {
  try {
    safe = await get(`sites/${encodeURIComponent(siteId)}/fail-safe`);
  } catch (error) {
    if (error instanceof LoginNeeded) return showLogin(error.message);
    safe = null;
  }
  if (shownLive) render(shownLive);
}

async function watch(id) {
  stream?.abort();
  const mine = new AbortController();
  stream = mine;
  siteId = id;
  let delay = 1000;
  while (!mine.signal.aborted) {
    try {
      await follow(`events?site=${encodeURIComponent(id)}`, {
        signal: mine.signal,
        heard: () => {
          delay = 1000;
          heard();
        },
        event: (name, data) => {
          if (name !== "snapshot") return changed();
          render(data);
          readCutOff();
        },
      });
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof LoginNeeded) return showLogin(error.message);
    }
    await new Promise((done) => setTimeout(done, delay));
    delay = Math.min(delay * 2, 10000);
  }
}

async function open() {
  try {
    const { items } = await get("sites");
    showPage();
    if (!items.length) {
      $("site-name").textContent = "No site is configured";
      return;
    }
    const asked = new URLSearchParams(location.search).get("site");
    const site = items.find((s) => s.site_id === asked) ?? items[0];
    $("sites").replaceChildren(...items.map((s) =>
      el("a", { href: `?site=${encodeURIComponent(s.site_id)}`, "aria-current": s === site ? "page" : null }, s.name || s.site_id)));
    heard();
    watch(site.site_id);
  } catch (error) {
    showLogin(error instanceof LoginNeeded ? (takeToken() ? error.message : "") : `Cannot reach the server: ${error.message}`);
  }
}

$("legend").replaceChildren(...LEGEND.map(([kind, word]) =>
  el("span", {}, el("span", { class: `key ${kind}` }), word)));
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token").value = "";
  open();
});
$("leave").addEventListener("click", () => {
  setToken(null);
  showLogin();
});
setInterval(watchAge, 500);
if (takeToken()) open();
else showLogin();
