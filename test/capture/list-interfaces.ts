// Prints the interfaces of the network namespace that it runs in.

import { interfaces } from "../../src/ffi/netlink.ts";

console.log(JSON.stringify(interfaces()));
