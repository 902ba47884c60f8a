// The user that a command is to run as, from the system's own database (nss, so also LDAP).

import { readFileSync } from "node:fs";
import { KQTimeError } from "../errors.ts";

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** @throws KQTimeError `E_USER` */
export function findUser(name: string): User {
  const fields = lookUp(name).trim().split(":");
  if (fields.length < 7) {
    throw new KQTimeError("E_USER", "getent", `there is no user "${name}" on this machine`);
  }
  if (process.getuid?.() !== 0) {
    throw new KQTimeError("E_USER", "setuid", `--user ${name} needs root: run kqtime with sudo`);
  }
  return {
    name: fields[0]!,
    uid: Number(fields[2]),
    gid: Number(fields[3]),
    home: fields[5]!,
    shell: fields[6]!,
  };
}

/** The user's line of passwd(5), or nothing. */
function lookUp(name: string): string {
  const getent = Bun.which("getent", { PATH: `${process.env.PATH ?? ""}:/usr/bin:/bin` });
  if (getent !== null) return Bun.spawnSync([getent, "passwd", "--", name]).stdout.toString();
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  return lines.find((line) => line.startsWith(`${name}:`)) ?? "";
}
