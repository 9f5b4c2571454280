/**
 * The kernel's command line: put together, checked, written with its NUL.
 */
import { TsvmError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import { CMDLINE_ADDR, CMDLINE_MAX_BYTES } from '../memory/layout.js';

/**
 * What an ELF kernel takes: COMMAND_LINE_SIZE (arch/x86/include/asm/setup.h) without the NUL. A bzImage says it in its
 * header; a longer line would be cut by the kernel without a word.
 */
export const DEFAULT_CMDLINE_LIMIT = 2047;

/** Joins parts with single spaces; empty ones and surrounding blanks vanish. */
export function joinCmdline(parts: readonly (string | undefined)[]): string {
  return parts
    .map((part) => part?.trim() ?? '')
    .filter((part) => part !== '')
    .join(' ');
}

/** @throws TsvmError `TSVM_CMDLINE` for what no kernel takes as one line. */
export function checkCmdlineText(cmdline: string): void {
  if (!/[\0\n\r]/.test(cmdline)) return;
  throw new TsvmError('TSVM_CMDLINE', 'the kernel command line contains a line break or a NUL', {
    hint: 'separate parameters with spaces',
  });
}

/** The bytes of a command line with its NUL. `limit` is the most the kernel takes without the NUL. */
export function encodeCmdline(cmdline: string, limit: number = DEFAULT_CMDLINE_LIMIT): Uint8Array {
  checkCmdlineText(cmdline);
  const text = new TextEncoder().encode(cmdline);
  const most = Math.min(limit, CMDLINE_MAX_BYTES - 1);
  if (text.length > most) {
    throw new TsvmError(
      'TSVM_CMDLINE',
      `the kernel command line has ${text.length} bytes, this kernel takes ${most}`,
      {
        hint: 'shorten --append, or replace the whole line with --cmdline',
      },
    );
  }
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text);
  return bytes;
}

/** Writes the command line to its place in the memory map. */
export function writeCmdline(memory: GuestMemory, cmdline: string, limit?: number): void {
  memory.write(CMDLINE_ADDR, encodeCmdline(cmdline, limit));
}
