/** Rights of this process, proc_pid_status(5). */
import type { HostReader } from './host-tree.js';

/** Effective capabilities, a bit for each; undefined where the kernel does not say. */
export function effectiveCapabilities(host: HostReader): bigint | undefined {
  const [, bits] = /^CapEff:\s*([0-9a-f]+)$/m.exec(host.text('proc/self/status') ?? '') ?? [];
  return bits === undefined ? undefined : BigInt(`0x${bits}`);
}
