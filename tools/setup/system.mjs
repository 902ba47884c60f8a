// Installs what the system lacks, by apt-get or dnf.

import { join } from "path";
import {
  Failure,
  findProgram,
  isRoot,
  privilegeAdvice,
  root,
  runAsRoot,
  say,
  sudoUsable,
} from "./process.mjs";

/** The package manager of this machine, and the script that drives it as root. */
function packageManager() {
  if (findProgram("apt-get") !== null) {
    return {
      key: "apt",
      program: "apt-get",
      script: "apt-install.sh",
      byHand: "apt-get update && apt-get install --no-install-recommends",
    };
  }
  if (findProgram("dnf") !== null) {
    return { key: "dnf", program: "dnf", script: "dnf-install.sh", byHand: "dnf install" };
  }
  return null;
}

function packagesOf(needs, key) {
  const packages = [];
  for (const need of needs) {
    for (const name of need[key]) if (!packages.includes(name)) packages.push(name);
  }
  return packages;
}

/** Installs the packages behind `needs`; does nothing when the list is empty. */
export async function installNeeds(needs) {
  if (needs.length === 0) return;
  const wanted = needs.map((need) => need.what).join("; ");
  const manager = packageManager();
  if (manager === null) {
    throw new Failure(`neither apt-get nor dnf is here; install by hand: ${wanted}`);
  }
  const packages = packagesOf(needs, manager.key);
  const byHand = `${manager.byHand} ${packages.map((name) => name.split("|")[0]).join(" ")}`;
  say(`missing here: ${wanted}`);
  if (!isRoot && !sudoUsable()) {
    throw new Failure(`sudo cannot be used; ${privilegeAdvice()}, run: ${byHand}`);
  }
  const how = `${manager.program}${isRoot ? "" : " through sudo"}`;
  say(`installing with ${how}: ${packages.join(" ")}`);
  say("no service is started or enabled by this.");
  const code = await runAsRoot("sh", [join(root, "tools", "setup", manager.script), ...packages]);
  if (code !== 0) throw new Failure(`installing failed; as root, run: ${byHand}`, code);
  const still = needs.filter((need) => !need.present());
  if (still.length > 0) {
    throw new Failure(`still missing after installing: ${still.map((need) => need.what).join("; ")}`);
  }
}
