// Generated from c/kqtime_shm.h by tools/gen-layout.ts: do not edit, run
// `bun tools/gen-layout.ts`. The offsets are the C compiler's own.

/** The numbers of the header: `KQ_SLOT_BYTES` is `slotBytes`. */
export const Constant = {
  magic: 1297175627,
  version: 4,
  headerBytes: 4096,
  slotBytes: 64,
  entryBytes: 256,
  tagBytes: 16,
  unheardDigits: 24,
  slotsDefault: 65536,
  slotsMin: 64,
  slotsMax: 16777216,
  entriesMin: 64,
  entriesMax: 262144,
  unreadUnknown: 4294967295,
  noName: 4294967295,
  nameMax: 255,
  stateBits: 3,
  callsActiveMask: 4095,
  callsStartedShift: 12,
  callsGroupShift: 30,
  callsPidsShift: 48,
  textMax: 512,
  messageHeadBytes: 64,
  replyHeadBytes: 16,
} as const;

/** Environment variables of a measured process. */
export const Env = {
  socket: "KQTIME_SESSION",
  token: "KQTIME_TOKEN",
  slots: "KQTIME_SLOTS",
} as const;

/** enum kq_loss */
export const Loss = {
  RingFull: 0,
  NoMemory: 1,
  TableFull: 2,
  FdRange: 3,
  NoAddress: 4,
  NoRing: 5,
  Stale: 6,
  Left: 7,
  Count: 8,
} as const;

/** enum kq_kind */
export const Kind = {
  Out: 1,
  In: 2,
  Connect: 3,
  Birth: 4,
  Listen: 5,
  Fork: 7,
  Unbind: 6,
  Name: 8,
  Register: 9,
  Deregister: 10,
  Other: 11,
} as const;

/** enum kq_slot_flag */
export const SlotFlag = {
  Overlap: 1,
  Vfork: 2,
  Refused: 4,
  Ktls: 8,
  Urgent: 16,
} as const;

/** enum kq_state */
export const State = {
  Free: 0,
  Filling: 1,
  Connecting: 2,
  Open: 3,
} as const;

/** enum kq_type */
export const Type = {
  Tcp: 1,
  Udp: 2,
} as const;

/** enum kq_entry_flag */
export const EntryFlag = {
  Connected: 1,
  Accepted: 2,
  Adopted: 4,
  Ktls: 8,
  Urgent: 16,
  ZerocopyIn: 32,
  Counted: 64,
  FirstUse: 128,
  Waits: 256,
} as const;

/** enum kq_message_type */
export const MessageType = {
  Ring: 0,
  Open: 1,
  Free: 2,
  Snapshot: 3,
  Rule: 4,
} as const;

/** enum kq_open_flag */
export const OpenFlag = {
  Stats: 1,
  In: 2,
  Out: 4,
  Gzip: 8,
  Pipe: 16,
} as const;

/** enum kq_rule_flag */
export const RuleFlag = {
  Remove: 1,
} as const;

/** struct kq_header: offset of each field in bytes. */
export const Header = {
  magic: 0,
  version: 4,
  headerBytes: 8,
  slotBytes: 12,
  slotCount: 16,
  entryBytes: 20,
  entryCount: 24,
  pid: 28,
  ringId: 32,
  tableId: 40,
  netnsIno: 48,
  birthNs: 56,
  comm: 64,
  head: 128,
  entryHint: 132,
  entryHigh: 136,
  tail: 256,
  heartbeat: 260,
  retired: 264,
  losses: 384,
  sessionSocket: 416,
  sessionToken: 524,
} as const;

/** struct kq_header: index of the u32 at which a field starts; a u64's upper half follows. */
export const HeaderWord = {
  magic: 0,
  version: 1,
  headerBytes: 2,
  slotBytes: 3,
  slotCount: 4,
  entryBytes: 5,
  entryCount: 6,
  pid: 7,
  ringId: 8,
  tableId: 10,
  netnsIno: 12,
  birthNs: 14,
  comm: 16,
  head: 32,
  entryHint: 33,
  entryHigh: 34,
  tail: 64,
  heartbeat: 65,
  retired: 66,
  losses: 96,
  sessionSocket: 104,
  sessionToken: 131,
} as const;

/** struct kq_header: size of each field, and of the whole, in bytes. */
export const HeaderBytes = {
  magic: 4,
  version: 4,
  headerBytes: 4,
  slotBytes: 4,
  slotCount: 4,
  entryBytes: 4,
  entryCount: 4,
  pid: 4,
  ringId: 8,
  tableId: 8,
  netnsIno: 8,
  birthNs: 8,
  comm: 16,
  head: 4,
  entryHint: 4,
  entryHigh: 4,
  tail: 4,
  heartbeat: 4,
  retired: 4,
  losses: 32,
  sessionSocket: 108,
  sessionToken: 32,
  total: 640,
} as const;

/** struct kq_slot: offset of each field in bytes. */
export const Slot = {
  commit: 0,
  kind: 4,
  flags: 5,
  retired: 6,
  entry: 8,
  gen: 12,
  timeNs: 16,
  off: 24,
  bytes: 32,
  fd: 36,
  pid: 40,
  group: 44,
  tag: 48,
} as const;

/** struct kq_slot: index of the u32 at which a field starts; a u64's upper half follows. */
export const SlotWord = {
  commit: 0,
  kind: 1,
  entry: 2,
  gen: 3,
  timeNs: 4,
  off: 6,
  bytes: 8,
  fd: 9,
  pid: 10,
  group: 11,
  tag: 12,
} as const;

/** struct kq_slot: size of each field, and of the whole, in bytes. */
export const SlotBytes = {
  commit: 4,
  kind: 1,
  flags: 1,
  retired: 2,
  entry: 4,
  gen: 4,
  timeNs: 8,
  off: 8,
  bytes: 4,
  fd: 4,
  pid: 4,
  group: 4,
  tag: 16,
  total: 64,
} as const;

/** struct kq_direction: offset of each field in bytes. */
export const Direction = {
  calls: 0,
  off: 8,
  callNs: 16,
  callBytes: 24,
  gone: 32,
} as const;

/** struct kq_direction: index of the u32 at which a field starts; a u64's upper half follows. */
export const DirectionWord = {
  calls: 0,
  off: 2,
  callNs: 4,
  callBytes: 6,
  gone: 8,
} as const;

/** struct kq_direction: size of each field, and of the whole, in bytes. */
export const DirectionBytes = {
  calls: 8,
  off: 8,
  callNs: 8,
  callBytes: 8,
  gone: 4,
  total: 64,
} as const;

/** struct kq_entry: offset of each field in bytes. */
export const Entry = {
  state: 0,
  type: 4,
  family: 5,
  flags: 6,
  birthNs: 8,
  inode: 16,
  laddr: 24,
  raddr: 40,
  lport: 56,
  rport: 58,
  birthPid: 60,
  birthFd: 64,
  queuedOut: 68,
  queuedIn: 72,
  sentBefore: 80,
  readBefore: 88,
  out: 128,
  in: 192,
} as const;

/** struct kq_entry: index of the u32 at which a field starts; a u64's upper half follows. */
export const EntryWord = {
  state: 0,
  type: 1,
  birthNs: 2,
  inode: 4,
  laddr: 6,
  raddr: 10,
  lport: 14,
  birthPid: 15,
  birthFd: 16,
  queuedOut: 17,
  queuedIn: 18,
  sentBefore: 20,
  readBefore: 22,
  out: 32,
  in: 48,
} as const;

/** struct kq_entry: size of each field, and of the whole, in bytes. */
export const EntryBytes = {
  state: 4,
  type: 1,
  family: 1,
  flags: 2,
  birthNs: 8,
  inode: 8,
  laddr: 16,
  raddr: 16,
  lport: 2,
  rport: 2,
  birthPid: 4,
  birthFd: 4,
  queuedOut: 4,
  queuedIn: 4,
  sentBefore: 8,
  readBefore: 8,
  out: 64,
  in: 64,
  total: 256,
} as const;

/** struct kq_message: offset of each field in bytes. */
export const Message = {
  magic: 0,
  version: 4,
  token: 8,
  ringId: 40,
  type: 48,
  handle: 52,
  flags: 56,
  textBytes: 60,
  text: 64,
} as const;

/** struct kq_message: index of the u32 at which a field starts; a u64's upper half follows. */
export const MessageWord = {
  magic: 0,
  version: 1,
  token: 2,
  ringId: 10,
  type: 12,
  handle: 13,
  flags: 14,
  textBytes: 15,
  text: 16,
} as const;

/** struct kq_message: size of each field, and of the whole, in bytes. */
export const MessageBytes = {
  magic: 4,
  version: 4,
  token: 32,
  ringId: 8,
  type: 4,
  handle: 4,
  flags: 4,
  textBytes: 4,
  text: 512,
  total: 576,
} as const;

/** struct kq_reply: offset of each field in bytes. */
export const Reply = {
  magic: 0,
  handle: 4,
  textBytes: 8,
  text: 16,
} as const;

/** struct kq_reply: index of the u32 at which a field starts; a u64's upper half follows. */
export const ReplyWord = {
  magic: 0,
  handle: 1,
  textBytes: 2,
  text: 4,
} as const;

/** struct kq_reply: size of each field, and of the whole, in bytes. */
export const ReplyBytes = {
  magic: 4,
  handle: 4,
  textBytes: 4,
  text: 512,
  total: 528,
} as const;
