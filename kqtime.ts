// `bun run kqtime …`: a file in the root, because through a package script Bun adds a wrapper
// process that swallows signals.

import { main } from "./src/cli/main.ts";

process.exitCode = await main(process.argv.slice(2));
