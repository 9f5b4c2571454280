/** Limits of this process, proc_pid_limits(5). */
import type { HostReader } from '../host-tree.js';

/** Descriptors that a machine with shares and a busy vsock needs: 1,024 of files, 2,048 of connections, and its own. */
export const MIN_OPEN_FILES = 4096;

/** Reads a limit by its name there; infinite where there is none. */
export function readLimit(host: HostReader, name: string): { soft: number; hard: number } | undefined {
  const [, soft, hard] =
    new RegExp(`^${name} +(\\d+|unlimited) +(\\d+|unlimited)\\b`, 'm').exec(
      host.text('proc/self/limits') ?? '',
    ) ?? [];
  const amount = (text: string): number => (text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text));
  return soft === undefined || hard === undefined ? undefined : { soft: amount(soft), hard: amount(hard) };
}
