// The site's connection and the fuses below it: what each limit carries now, what is planned, and
// what it would come to with every station cut off.

import { el } from "./dom.js";
import { inUnit } from "./format.js";

const DEEPEST = 6;
const NAMED = 4;
const SHOWN = 0.05;
const OWN = ["site", "fuse"];
const HEAD = [
  ["Phase"], ["Limit", "n"], ["Kept?"], ["Drawn now", "n"], ["Unmanaged", "n"], ["Planned (cars)", "n"],
  ["Held for guards", "n"], ["Room left", "n"], ["Cut off, at most", "n"], ["Room if cut off", "n"],
];

const key = (circuitId, limit) => `${circuitId}/${limit}`;

function place(circuit, row) {
  const phase = row.limit === "kW" ? "" : ` ${row.limit}`;
  return `${circuit.name || circuit.circuit_id || "site"}${phase}`;
}

// Circuits in the order of the tree, each with how deep it hangs and what it hangs on.
function nested(circuits) {
  const [site, ...others] = circuits;
  const found = [{ circuit: site, depth: 0, above: null }];
  const add = (parent, depth) => {
    for (const circuit of others.filter((c) => c.parent_id === parent.circuit_id)) {
      found.push({ circuit, depth, above: parent });
      add(circuit, depth + 1);
    }
  };
  add(site, 1);
  return found;
}

function byLimit(safe) {
  return new Map((safe?.limits ?? []).map((row) => [key(row.circuit_id, row.limit), row]));
}

function tag(words, tone) {
  return el("span", { class: `tag ${tone}` }, words);
}

function kept(row, cut) {
  const tags = [];
  if (row.is_passed) tags.push(tag(`✕ passed by ${inUnit(row.drawn - row.most, row.limit)}`, "miss"));
  else if (row.left < -SHOWN) {
    // Of what is above the limit, cars may have nothing: guards hold without any plan.
    const isPlanned = row.planned > SHOWN && row.unmanaged + row.planned > row.most + SHOWN;
    tags.push(tag(`! ${isPlanned ? "planned" : "with guards"} ${inUnit(-row.left, row.limit)} above`, "risk"));
  }
  if (cut && !cut.is_kept) tags.push(tag(`! cut off ${inUnit(-cut.left, row.limit)} above`, "miss"));
  if (tags.length) return tags.map((one) => el("div", {}, one));
  // What holds at the worst moment holds now, but for a cap.
  if (row.drawn === null && cut?.most !== row.most) return tag("◷ not measured", "");
  return tag(cut ? "✓ kept" : "✓ kept now", "ok");
}

function limitCell(row) {
  const most = row.most === null ? "none" : inUnit(row.most, row.limit);
  return [most, OWN.includes(row.source) ? null : el("div", { class: "dim" }, `by ${row.source}`)];
}

function cutCell(row, cut, safe, clock) {
  if (!cut) return "–";
  const words = [];
  if (cut.guards > cut.worst + SHOWN) words.push("a car at every EVSE");
  else if (cut.worst_at !== safe.at) words.push(clock.day(cut.worst_at));
  // A cap for a time is not kept by a station that nobody can tell.
  if (cut.most !== null && cut.most !== row.most) words.push(`of ${inUnit(cut.most, row.limit)}`);
  return [words.length ? el("span", { class: "dim" }, `${words.join(", ")} `) : null, inUnit(cut.highest, row.limit)];
}

function cells(row, cut, indent, safe, clock) {
  const n = (content) => el("td", { class: "n" }, content);
  return [
    el("th", { scope: "row", class: indent }, row.limit === "kW" ? "all" : row.limit),
    n(limitCell(row)),
    el("td", {}, kept(row, cut)),
    n(inUnit(row.drawn, row.limit)),
    n(inUnit(row.unmanaged, row.limit)),
    n(inUnit(row.planned, row.limit)),
    n(inUnit(row.reserved, row.limit)),
    n(inUnit(row.left, row.limit)),
    n(cutCell(row, cut, safe, clock)),
    n(inUnit(cut?.left, row.limit)),
  ];
}

function meterNotes(circuit, meters) {
  return meters
    .filter((m) => m.kind === "load" && m.circuit_id === circuit.circuit_id)
    .map((m) =>
      m.is_silent
        ? tag(` ! meter ${m.meter} is silent`, "risk")
        : el("span", { class: "dim" }, ` meter ${m.meter}`),
    );
}

function group({ circuit, depth, above }, live, safe, cuts, clock) {
  const name = circuit.name || circuit.circuit_id || "Site";
  const indent = `d${Math.min(depth, DEEPEST)}`;
  const isNamed = circuit.circuit_id && circuit.circuit_id.toLowerCase() !== name.toLowerCase();
  const head = el("th", { scope: "rowgroup", colspan: HEAD.length },
    el("span", { class: `name ${indent}` },
      name,
      above ? el("span", { class: "unseen" }, `, below ${above.name || above.circuit_id || "the site"}`) : null,
      isNamed ? el("span", { class: "dim" }, ` ${circuit.circuit_id}`) : null,
      meterNotes(circuit, live.meters),
      circuit.limits.length ? null : el("span", { class: "dim" }, " no limit of its own")));
  return el("tbody", {},
    el("tr", {}, head),
    circuit.limits.map((row) =>
      el("tr", {}, cells(row, cuts.get(key(circuit.circuit_id, row.limit)), indent, safe, clock))));
}

function listed(names) {
  const more = names.length - NAMED;
  return more > 0 ? `${names.slice(0, NAMED).join(", ")} and ${more} more` : names.join(", ");
}

function inWords(safe, clock) {
  if (!safe) return [el("p", { class: "dim" }, "What happens with every station cut off is not known at the moment.")];
  const at = `worked out ${clock.exact(safe.at)}`;
  const lines = [
    safe.is_kept
      ? el("p", {}, tag("✓ With every station cut off, each at its worst moment, every limit is kept", "ok"), ` (${at}).`)
      : el("p", {}, tag("! With every station cut off, limits would be passed", "miss"), ` (${at}): see below.`),
  ];
  const open = safe.evses.filter((e) => !e.is_accepted && e.guard_kw > 0).map((e) => `${e.station_id} / ${e.evse_id}`);
  if (open.length) {
    lines.push(el("p", {}, tag(`! No guard taken yet: ${listed(open)}`, "risk"), "; counted with all they can deliver."));
  }
  if (safe.without_guard.length) {
    lines.push(el("p", { class: "dim" }, `${safe.without_guard.length} of ${safe.evses.length} EVSEs give nothing while cut off, so that the others may.`));
  }
  return lines;
}

// What the site may draw now, and whose limit that is where it is not its own.
export function siteLimit(live) {
  const row = live.circuits[0].limits.find((one) => one.limit === "kW");
  if (!row || row.most === null) return [inUnit(live.site.limit_kw, "kW"), ""];
  return [inUnit(row.most, "kW"), OWN.includes(row.source) ? "" : `by ${row.source}, `];
}

// A tile's value and what stands beside it.
export function limitsTile(live, safe) {
  const passed = live.circuits.flatMap((c) => c.limits.filter((row) => row.is_passed).map((row) => place(c, row)));
  const value = passed.length ? `✕ ${passed.length > 1 ? passed.length : passed[0]} passed` : "✓ kept";
  if (!safe) return [value, "cut off: not known"];
  const bad = safe.limits.filter((row) => !row.is_kept).length;
  const site = byLimit(safe).get(key("", "kW"));
  const most = site ? `, at most ${inUnit(site.highest, "kW")}` : "";
  return [value, bad ? `! cut off: ${bad} passed${most}` : `cut off: kept${most}`];
}

export function drawCircuits(holder, words, live, safe, clock) {
  const cuts = byLimit(safe);
  words.replaceChildren(...inWords(safe, clock));
  holder.replaceChildren(
    el("table", { class: "circuits" },
      el("thead", {}, el("tr", {}, HEAD.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
      nested(live.circuits).map((one) => group(one, live, safe, cuts, clock))),
  );
}
