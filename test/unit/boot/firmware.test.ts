import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../../src/boot/byte-source.js';
import { builtinFirmware, loadFirmware } from '../../../src/boot/firmware.js';
import { loadLinux, writeResetHandover } from '../../../src/boot/load.js';
import { runXz } from '../../../src/host/process/program-filter.js';
import { GDT_ADDR, RESET_HANDOVER_ADDR } from '../../../src/memory/layout.js';
import { missingProgram } from '../../support/skip-reasons.js';
import { makeElf, ram } from './images.js';

const KIB = 1024;
const build = fileURLToPath(new URL('../../../firmware/build', import.meta.url));

describe('loadFirmware()', () => {
  it('ends at 4 GiB, with its last 256 KiB below 1 MiB too', () => {
    const bytes = new Uint8Array(512 * KIB).map((_, i) => i >>> 11);
    const { rom, lowCopy } = loadFirmware(bytes);
    expect(rom.addr).toBe(0xfff8_0000);
    expect(lowCopy?.addr).toBe(0xc0000);
    expect(lowCopy?.bytes[0]).toBe(128);
  });

  it('copies all of a ROM of 64 KiB', () => {
    expect(loadFirmware(new Uint8Array(64 * KIB))).toMatchObject({
      rom: { addr: 0xffff_0000 },
      lowCopy: { addr: 0xf0000 },
    });
  });

  it.each([0, 4 * KIB, 64 * KIB + 1, 4096 * KIB + 4096])('refuses a file of %i bytes', (length) => {
    expect(() => loadFirmware(new Uint8Array(length))).toThrowError(
      expect.objectContaining({ code: 'TSVM_FIRMWARE' }),
    );
  });
});

describe('builtinFirmware()', () => {
  it('has a near jump at the reset vector', () => {
    const { rom } = builtinFirmware();
    expect(rom.addr + rom.bytes.length).toBe(0x1_0000_0000);
    const jump = rom.bytes.subarray(-16);
    expect(jump[0]).toBe(0xe9);
    const target = 0xfff0 + 3 + new DataView(jump.slice().buffer).getInt16(1, true);
    expect(target).toBe(0xff00);
    expect(rom.bytes[target - 0xf000]).toBe(0xfa);
  });

  it('is what firmware/reset.S makes', ({ skip }) => {
    const problem = missingProgram('objcopy', 'binutils');
    skip(problem !== undefined, problem);
    const { status, stderr } = spawnSync(build, ['--check']);
    expect(status, stderr.toString()).toBe(0);
  });
});

describe('writeResetHandover()', () => {
  it('leaves entry, boot_params, page tables of 4 GiB, stack and GDT', async () => {
    const memory = ram();
    const { entry } = await loadLinux(memory, {
      image: bytesSource(makeElf()),
      cmdline: '',
      cpus: 1,
      devices: [],
      acpi: false,
      mptable: false,
      xz: runXz,
    });
    writeResetHandover(memory, entry);
    const at = (offset: number): number => memory.readU64(RESET_HANDOVER_ADDR + offset);
    expect([at(0), at(8), at(16), at(24)]).toEqual([entry.rip, entry.rsi, entry.cr3, entry.rsp]);
    expect([memory.readU16(RESET_HANDOVER_ADDR + 32), at(34)]).toEqual([47, GDT_ADDR]);
    const lastDirectory = memory.readU64(
      memory.readU64(entry.cr3) - (memory.readU64(entry.cr3) % 4096) + 3 * 8,
    );
    expect(lastDirectory & 1).toBe(1);
  });
});
