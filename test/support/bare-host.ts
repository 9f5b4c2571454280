import type { Host } from '../../src/devices/backends/host.js';

/** A host that has `parts` and nothing else. */
export function bareHost(parts: Partial<Host>): Host {
  const none = (): never => {
    throw new Error('this host has none');
  };
  return {
    fillRandom: none,
    openDisk: none,
    openConsole: none,
    openPort: none,
    openPortSocket: none,
    openVsock: none,
    openNet: none,
    openShare: none,
    openBalloon: none,
    openPmem: none,
    ...parts,
  };
}
