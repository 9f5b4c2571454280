/**
 * Everything that tests need of the network or of a long build, made before the rig starts, which has no network.
 */
import { debianRoot, debianWithSystemd } from './debian.js';
import { debianKernel } from './debian-kernel.js';
import { dockerPrograms } from './docker-daemon.js';
import { installedPackage } from './installed-package.js';
import { memtestImage } from './memtest.js';
import { must } from './must.js';
import { shareCalls } from './share-calls.js';
import { vsockPrograms } from './vsock-programs.js';

const PARTS: readonly (readonly [what: string, make: () => unknown])[] = [
  ['Node 20, 22 and 24', () => must('test/run/node-versions', 'fetch')],
  ['Debian’s kernel', debianKernel],
  ['the guest on Debian’s kernel', () => must('guests/build', 'all', 'debian')],
  ['programs of the vsock tests', vsockPrograms],
  ['system-call checks of shared folders', shareCalls],
  ['the package, installed', installedPackage],
  ['docker', dockerPrograms],
  ['Memtest86+', memtestImage],
  ['a Debian', debianRoot],
  ['a Debian with systemd', debianWithSystemd],
];

/** Makes what is not cached yet, and says what each took. Throws when something cannot be made, after it has tried the others. */
export function prefetchAll(log: (line: string) => void): void {
  const failures: unknown[] = [];
  for (const [what, make] of PARTS) {
    const started = performance.now();
    const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
    try {
      make();
      log(`${what}: ${seconds()}`);
    } catch (error) {
      failures.push(error);
      log(`${what}: FAILED after ${seconds()}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} cannot be had`);
}
