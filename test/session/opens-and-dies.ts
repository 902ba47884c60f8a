// Opens a handle, measures one exchange, and is killed without having closed it.
//
//     bun opens-and-dies.ts LOG

import { KQTime } from "../../src/api/index.ts";
import { connectTo, echoServer } from "../api/scenario-tools.ts";

const kq = await KQTime.open({ log: process.argv[2]! });
const { socket, exchange } = await connectTo(echoServer().port);
kq.register(socket, "mine");
await exchange(100);
process.kill(process.pid, "SIGKILL");
