// Numbers, units, times and words. Times are shown in the site's zone.

export function kw(value) {
  if (value === null || value === undefined) return "–";
  return `${Math.abs(value) >= 100 ? Math.round(value) : value.toFixed(1)} kW`;
}

// A value of a limit: of a phase in A, else in kW.
export function inUnit(value, limit) {
  if (value === null || value === undefined) return "–";
  const rounded = Math.abs(value) < 0.05 ? 0 : value;
  return limit === "kW" ? kw(rounded) : `${rounded.toFixed(1)} A`;
}

export function kwh(value) {
  return value === null || value === undefined ? "–" : `${value.toFixed(1)} kWh`;
}

export function price(value) {
  return value === null || value === undefined ? "–" : `${Math.abs(value) < 1 ? value.toFixed(3) : value.toFixed(2)} €/kWh`;
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}

export function clockOf(timeZone) {
  const make = (options) => {
    try {
      return new Intl.DateTimeFormat("en-GB", { timeZone, ...options });
    } catch {
      return new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
    }
  };
  const short = make({ hour: "2-digit", minute: "2-digit" });
  const long = make({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = make({ weekday: "short", hour: "2-digit", minute: "2-digit" });
  return {
    time: (at) => (at ? short.format(new Date(at)) : "–"),
    exact: (at) => (at ? long.format(new Date(at)) : "–"),
    day: (at) => (at ? day.format(new Date(at)) : "–"),
  };
}

export const READINESS = {
  ready: ["✓", "ready", "ok"],
  on_track: ["✓", "on track", "ok"],
  at_risk: ["!", "at risk", "risk"],
  will_miss: ["✕", "will miss", "miss"],
  waiting: ["◷", "waits for a plan", ""],
  refused: ["✕", "not authorized", "miss"],
};

// Control characters in what stations say are made visible; the page only ever sets text.
export function shown(text) {
  return String(text ?? "").replace(
    /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
