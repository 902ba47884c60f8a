// The configurations of the private Tor network's nodes; see tor.ts. What looks odd here is what it
// takes for a network without a single address of the real one to vote, and to do so at once.

export const OR_PORT = 15000;
export const DIR_PORT = 15100;
export const SOCKS_PORT = 15300;

/** An authority takes the next boundary of its voting interval even where its voting time has
 *  passed: with five seconds it published an empty consensus. Divides 86,400. */
const VOTING_S = 8;

export interface Identities {
  /** Fingerprint of the authority's certificate. */
  v3: string;
  /** Of the relays, by name. */
  fingerprints: Record<string, string>;
}

export interface Place {
  name: string;
  folder: string;
  address: string;
  /** Address of the authority. */
  authority: string;
  /** A resolv.conf that names nobody. */
  resolver: string;
}

export function torrc(place: Place, identities: Identities): string[] {
  const { name, folder, authority } = place;
  const { v3, fingerprints } = identities;
  const lines = [
    "TestingTorNetwork 1",
    `DirAuthority a1 orport=${OR_PORT} no-v2 v3ident=${v3} ${authority}:${DIR_PORT} ${fingerprints.a1}`,
    `DataDirectory ${folder}`, `Nickname ${name}`, `PidFile ${folder}/pid`,
    `Log notice file ${folder}/notice.log`, "SafeLogging 0", "LogTimeGranularity 1",
    "ShutdownWaitLength 0", `ControlSocket ${folder}/control`,
    "PathsNeededToBuildCircuits 0.67",
    // Where addresses are in the world: half a second of each start, for nothing.
    `GeoIPFile ${place.resolver}`, `GeoIPv6File ${place.resolver}`,
  ];
  if (name.startsWith("c")) {
    return [...lines, `SocksPort 127.0.0.1:${SOCKS_PORT}`, "UseEntryGuards 0"];
  }
  lines.push(
    "SocksPort 0", `Address ${place.address}`, `ORPort ${place.address}:${OR_PORT}`,
    "AssumeReachable 1", "__DisablePredictedCircuits 1", "ServerDNSDetectHijacking 0",
    "ServerDNSTestAddresses", `ServerDNSResolvConfFile ${place.resolver}`,
  );
  if (name === "a1") lines.push(...authorityLines(place, fingerprints));
  else if (name === "r1") lines.push("ExitRelay 0");
  else lines.push("ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept *:*");
  return lines;
}

function authorityLines(place: Place, fingerprints: Record<string, string>): string[] {
  const offset = (Math.floor(Date.now() / 1000) + VOTING_S - 1) % VOTING_S;
  return [
    `DirPort ${place.address}:${DIR_PORT}`, "ExitRelay 0", "AuthoritativeDirectory 1",
    "V3AuthoritativeDirectory 1", "ContactInfo a1@torlab.invalid", "V3AuthNIntervalsValid 2",
    `TestingV3AuthInitialVotingInterval ${VOTING_S}`, "TestingV3AuthInitialVoteDelay 2",
    "TestingV3AuthInitialDistDelay 2", `TestingV3AuthVotingStartOffset ${offset}`,
    "V3AuthVotingInterval 43200", "V3AuthVoteDelay 2", "V3AuthDistDelay 2",
    // One that starts again would take relays that it knows from before for down.
    "AuthDirTestReachability 0",
    "TestingMinExitFlagThreshold 0",
    `TestingDirAuthVoteGuard ${fingerprints.r1}`, "TestingDirAuthVoteGuardIsStrict 1",
    `TestingDirAuthVoteExit ${fingerprints.r2}`, "TestingDirAuthVoteExitIsStrict 1",
  ];
}
