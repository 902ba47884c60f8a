// Figures as people read them, three digits and a unit, at most seven columns wide.

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const COUNT_UNITS = ["", "k", "M", "G", "T", "P", "E"];
const TIME_UNITS = ["ns", "µs", "ms", "s"];

/** `value` ≥ 1 in three significant digits: 1.23, 12.3, 123. */
function threeDigits(value: number): string {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

function scaled(value: number, units: readonly string[]): string {
  let unit = 0;
  // 999.5 would be rounded to 1000, which belongs to the next unit.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : threeDigits(value)} ${units[unit]}`.trimEnd();
}

/** Bytes in decimal units: `999 B`, `1.23 MB`. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, BYTE_UNITS);
}

/** A number of things: exact up to five digits, then `123 k`, `1.23 M`. */
export function formatCount(count: number): string {
  return count < 100000 ? String(Math.round(count)) : scaled(count, COUNT_UNITS);
}

/** A time in ns: `123 ns`, `1.23 ms`, `12.3 s`, `1234 s`, `27.8 h`; `-` if there is none. */
export function formatTime(ns: number | null): string {
  if (ns === null) return "-";
  if (ns < 999.5e9) return scaled(ns, TIME_UNITS);
  const sec = ns / 1e9;
  return sec < 99999.5 ? `${Math.round(sec)} s` : `${threeDigits(sec / 3600)} h`;
}

/** Whole bytes with separators, for sums that a reader checks: `1,234,567`. */
export function formatExact(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * A share as a percentage, rounded down: what is not all is never `100 %`, what is not nothing
 * never `0.00 %`; `-` if there is none.
 */
export function formatShare(share: number | null): string {
  if (share === null) return "-";
  if (share >= 1) return "100 %";
  if (share <= 0) return "0 %";
  // 0.57 * 10000 is 5699.999…: what is within a billionth of the next step has reached it.
  const hundredths = Math.min(9999, Math.floor(share * 10000 + 1e-5));
  return hundredths === 0 ? "<0.01 %" : `${(hundredths / 100).toFixed(2)} %`;
}
