// `bun run kist …`: a file in the root, because through a package script Bun adds a wrapper process
// that does not wait, at Ctrl-C, for the namespaces to be gone.

import { main } from "./examples/tor-kist/kist.ts";

process.exit(await main(process.argv.slice(2)));
