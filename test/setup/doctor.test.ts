import { beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUN_MINIMUM, ringBytes } from "../../src/cli/doctor-checks.ts";
import { type Check, doctor, rootlessCommand } from "../../src/cli/doctor-checks-for-tests.ts";
