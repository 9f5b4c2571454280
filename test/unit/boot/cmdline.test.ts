import { describe, expect, it } from 'vitest';
import { encodeCmdline, joinCmdline, writeCmdline } from '../../../src/boot/cmdline.js';
import { CMDLINE_ADDR } from '../../../src/memory/layout.js';
import { ram } from './images.js';

describe('joinCmdline()', () => {
  it('joins what is there with single spaces', () => {
    expect(joinCmdline(['console=ttyS0', undefined, ' quiet ', '', 'panic=-1'])).toBe(
      'console=ttyS0 quiet panic=-1',
    );
  });
});

describe('encodeCmdline()', () => {
  it('ends with a NUL and takes exactly the limit', () => {
    expect(encodeCmdline('x'.repeat(2047))).toHaveLength(2048);
    expect(encodeCmdline('abc', 3)).toEqual(Uint8Array.of(0x61, 0x62, 0x63, 0));
  });

  it.each([
    ['longer than the kernel takes', 'x'.repeat(11), 10],
    ['longer in bytes, not in characters', 'ä'.repeat(6), 10],
    ['longer than its place, whatever the kernel says', 'x'.repeat(4096), 0xffff_ffff],
    ['with a line break', 'a\nb', 10],
    ['with a NUL', 'a\0b', 10],
  ])('refuses one %s', (_, cmdline, limit) => {
    expect(() => encodeCmdline(cmdline, limit)).toThrowError(
      expect.objectContaining({ code: 'TSVM_CMDLINE' }),
    );
  });
});

describe('writeCmdline()', () => {
  it('writes text and NUL to its place', () => {
    const memory = ram(1 << 20, 0xff);
    writeCmdline(memory, 'quiet');
    expect(Buffer.from(memory.read(CMDLINE_ADDR, 7)).toString('latin1')).toBe('quiet\0\xff');
  });
});
