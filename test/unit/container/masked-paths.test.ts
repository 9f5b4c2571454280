/** Paths of the host that a container does not see. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ociConfig } from '../../../src/container/engines/oci-bundle.js';
import { maskedPaths } from '../../../src/container/masked-paths.js';
import { temporaryDirectory } from '../../support/guest.js';

describe('maskedPaths()', () => {
  test('has how often each CPU was throttled, where the host counts it', () => {
    const cpus = temporaryDirectory();
    for (const folder of [
      'cpu0/thermal_throttle',
      'cpu12/thermal_throttle',
      'cpu3',
      'cpuidle/thermal_throttle',
    ]) {
      mkdirSync(join(cpus, folder), { recursive: true });
    }
    const masked = maskedPaths(cpus).filter((path) => path.includes('throttle'));
    expect(masked.sort()).toEqual([
      '/sys/devices/system/cpu/cpu0/thermal_throttle',
      '/sys/devices/system/cpu/cpu12/thermal_throttle',
    ]);
    expect(maskedPaths('/nowhere')).toContain('/proc/kcore');
  });

  test('is what the bundle of an OCI runtime masks', () => {
    const facts = { capabilities: [], uidMap: [], gidMap: [] };
    const { linux } = ociConfig({ layers: ['/'], argv: ['true'] }, facts) as { linux: object };
    expect(linux).toMatchObject({ maskedPaths: maskedPaths() });
  });
});
