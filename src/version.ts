import { version } from "../package.json";

/** kqtime's version, as in package.json. */
export const VERSION: string = version;
