// All the set-up of a fresh machine, behind `npm run setup`, `npm start` and `npm test`.
//
// Runs on the node that came with npm, before Bun or any package is there: so no dependencies,
// and no syntax younger than node 12 (Ubuntu 22.04), so that an old node gets a clear line.
//
//     node tools/setup.mjs [--test] [--run demo|test|bench [argument…]]
//
// What is there is left alone: a second run installs and builds nothing.

import { buildNative, installNodeModules } from "./setup/npm.mjs";
import { missingNeeds } from "./setup/needs.mjs";
import { installNeeds } from "./setup/system.mjs";
import { Failure, giveBack, requireNode, root, say } from "./setup/process.mjs";
import { runBench, runDemo, runTests } from "./setup/run.mjs";

function parse(argv) {
  const options = { test: false, run: null, runOnly: false, rest: [] };
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index];
    if (argument === "--test") options.test = true;
    // Set up already: this is the part of the same run that sudo started.
    else if (argument === "--run-only") options.runOnly = true;
    else if (argument === "--run") {
      options.run = argv[index + 1];
      options.rest = argv.slice(index + 2);
      break;
    } else throw new Failure(`unknown argument ${argument}`, 2);
  }
  if (options.run !== null && !["demo", "test", "bench"].includes(options.run)) {
    throw new Failure("--run takes demo, test or bench", 2);
  }
  return options;
}

async function setUp(options) {
  requireNode();
  const platform = process.platform;
  if (platform !== "linux" && platform !== "darwin") {
    throw new Failure(`kqtime measures on Linux; ${platform} is not supported`);
  }
  if (platform === "linux") {
    await installNeeds(missingNeeds(options.test, options.run === "bench"));
  }
  await installNodeModules();
  if (platform === "linux") await buildNative();
  else say("installed. Measuring needs Linux: here kqtime can replay and report, not capture.");
}

async function main() {
  const options = parse(process.argv.slice(2));
  process.chdir(root);
  try {
    if (!options.runOnly) await setUp(options);
    if (options.run === "demo") return await runDemo(options.rest, options.runOnly);
    if (options.run === "test") return await runTests(options.rest, options.runOnly);
    if (options.run === "bench") return await runBench(options.rest);
    if (!options.runOnly) say("ready: `npm start` runs the demo, `bin/kqtime --help` tells the rest.");
    return 0;
  } finally {
    giveBack(root);
  }
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    if (!(error instanceof Failure)) throw error;
    if (error.message !== "") console.error(`setup: ${error.message}`);
    process.exitCode = error.exitCode;
  },
);
