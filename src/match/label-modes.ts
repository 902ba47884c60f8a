/** How sockets without a name are grouped; a peer's address appears only with `peer`. */
export const LABEL_MODES = ["none", "port", "peer"] as const;
export type LabelMode = (typeof LABEL_MODES)[number];
