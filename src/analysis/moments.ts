// Moments of a log's time, as users type and read them: ISO 8601, or `+30s` from the log's start.

const UNITS_NS: Record<string, number> = {
  ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, min: 60e9, h: 3600e9, d: 86400e9,
};

/** Unix time, or ns from the log's start; a Number holds no Unix time in ns. */
export type Moment =
  | { readonly kind: "unix"; readonly sec: number; readonly ns: number }
  | { readonly kind: "after"; readonly ns: number };

/** A length of time: `30s`, `1.5h`, `250ms`; without a unit, seconds. Null if it is none. */
export function parseDurationNs(text: string): number | null {
  const parts = text.match(/^(\d+(?:\.\d+)?)\s*([a-zµ]*)$/);
  if (parts === null) return null;
  const unit = UNITS_NS[parts[2] === "" ? "s" : parts[2]!];
  return unit === undefined ? null : Math.round(Number(parts[1]) * unit);
}

/**
 * `2026-11-23T12:00:00.5+01:00`, `… Z`, without a zone in that of this machine; a blank for the `T`;
 * the time or its seconds may be missing. `+30s`: from the log's start. Null if it is neither.
 */
export function parseMoment(text: string): Moment | null {
  if (text.startsWith("+")) {
    const ns = parseDurationNs(text.slice(1));
    return ns === null ? null : { kind: "after", ns };
  }
  const parts = text.match(
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i,
  );
  if (parts === null) return null;
  const [, date, minutes = "00:00", seconds = ":00", fraction = "", zone = ""] = parts;
  let offset = zone.toUpperCase();
  if (/^[+-]\d\d$/.test(offset)) offset += ":00";
  else if (/^[+-]\d{4}$/.test(offset)) offset = `${offset.slice(0, 3)}:${offset.slice(3)}`;
  const sec = Date.parse(`${date}T${minutes}${seconds}${offset}`) / 1000;
  if (!Number.isFinite(sec)) return null;
  return { kind: "unix", sec, ns: Number(fraction.padEnd(9, "0")) };
}

/** ns relative to `baseSec`; `startNs` is the log's start. */
export function momentNs(moment: Moment, baseSec: number, startNs: number): number {
  return moment.kind === "after" ? startNs + moment.ns : (moment.sec - baseSec) * 1e9 + moment.ns;
}

/** `2026-11-23T13:00:00.500+01:00`, in this machine's zone. */
export function formatMoment(baseSec: number, ns: number): string {
  const date = new Date(baseSec * 1000 + Math.floor(ns / 1e6));
  if (Number.isNaN(date.getTime())) return `${baseSec + ns / 1e9} s (Unix time)`;
  const minutes = -date.getTimezoneOffset();
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  const zone = `${minutes < 0 ? "-" : "+"}${two(Math.abs(minutes) / 60)}:${two(Math.abs(minutes) % 60)}`;
  const local = new Date(date.getTime() + minutes * 60000).toISOString().slice(0, -1);
  return local + zone;
}
