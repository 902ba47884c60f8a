// The lock file pins what is installed by its hash, and leaves open from where.

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./folder.ts";

interface Locked {
  version?: string;
  integrity?: string;
  resolved?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const text = readFileSync(join(root, "package-lock.json"), "utf8");
const lock = JSON.parse(text) as { lockfileVersion: number; packages: Record<string, Locked> };
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

function withoutFunding(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => key !== "funding");
  return Object.fromEntries(kept.map(([key, child]) => [key, withoutFunding(child)]));
}

test("lock files carry no download addresses", () => {
  for (const name of ["package-lock.json", "bun.lock", "npm-shrinkwrap.json"]) {
    if (!existsSync(join(root, name))) continue;
    const whole = readFileSync(join(root, name), "utf8");
    // Sponsors' pages are no download addresses; anything else with a scheme might be one.
    const content = name === "package-lock.json" ? JSON.stringify(withoutFunding(JSON.parse(whole))) : whole;
    expect(content).not.toMatch(/"resolved"|\.tgz|registry/);
    expect(content.match(/[a-z+]+:\/\/[^"\s]+/g) ?? []).toEqual([]);
  }
  expect(existsSync(join(root, "bun.lockb"))).toBe(false);
});

test("every locked package has a hash and an exact version", () => {
  for (const [folder, entry] of Object.entries(lock.packages)) {
    if (folder === "") continue;
    expect(entry.integrity, folder).toMatch(/^sha512-/);
    expect(entry.version, folder).toMatch(/^\d+\.\d+\.\d+/);
  }
});

test("the manifest asks for what is locked, exactly", () => {
  const asked = { ...manifest.dependencies, ...manifest.devDependencies };
  for (const [name, version] of Object.entries(asked)) {
    expect(lock.packages[`node_modules/${name}`]?.version, name).toBe(version as string);
  }
});

test("npm keeps addresses out of the lock file when it writes one", () => {
  const settings = readFileSync(join(root, ".npmrc"), "utf8");
  expect(settings).toContain("omit-lockfile-registry-resolved=true");
  expect(settings).not.toContain("://");
});

test("the lock is whole on every platform: `npm ci` refuses one that lacks a package", () => {
  const locked = new Set(Object.keys(lock.packages).map((folder) => folder.replace(/^.*node_modules\//, "")));
  for (const [folder, entry] of Object.entries(lock.packages)) {
    const asked = { ...entry.dependencies, ...entry.optionalDependencies };
    for (const name of Object.keys(asked)) expect(locked.has(name), `${name}, for ${folder}`).toBe(true);
  }
});
