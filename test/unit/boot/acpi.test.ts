import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { dsdt, fadt, madt, writeAcpiTables, xsdt } from '../../../src/boot/acpi.js';
import * as aml from '../../../src/boot/aml.js';
import { ACPI_ADDR } from '../../../src/memory/layout.js';
import { missingProgram } from '../../support/skip-reasons.js';
import { ram } from './images.js';

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0) & 0xff;
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const devices = Array.from({ length: 13 }, (_, i) => ({
  addr: 0xd000_0000 + i * 0x1000,
  length: 0x200,
  gsi: 5 + i,
}));

const tables: [string, Uint8Array][] = [
  ['FACP', fadt(0xe0040)],
  ['APIC', madt(64)],
  ['XSDT', xsdt([0xe0100, 0xe0200])],
  ['DSDT', dsdt({ cpus: 1, devices })],
];

const noIasl = missingProgram('iasl', 'acpica-tools');

describe.each(tables)('the %s table', (signature, table) => {
  it('has its signature, its length and a right checksum', () => {
    expect(Buffer.from(table.subarray(0, 4)).toString()).toBe(signature);
    expect(viewOf(table).getUint32(4, true)).toBe(table.length);
    expect(sum(table)).toBe(0);
  });

  const directory = mkdtempSync(join(tmpdir(), 'tsvm-acpi-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  it('is disassembled by iasl without a complaint', ({ skip }) => {
    skip(noIasl !== undefined, noIasl);
    writeFileSync(join(directory, 'table.aml'), table);
    const { stdout, stderr, status } = spawnSync('iasl', ['-d', 'table.aml'], { cwd: directory });
    const output = `${stdout}${stderr}`;
    expect(status, output).toBe(0);
    expect(output).not.toMatch(/error|warning|invalid|incorrect|unknown|exception/i);
    const source = readFileSync(join(directory, 'table.dsl'), 'utf8');
    expect(source).not.toMatch(/incorrect|invalid|unknown|\*\*\*\*/i);
    if (signature !== 'DSDT') return;
    expect(source).toMatch(/Name \(\\_S5, Package \(0x04\)/);
    expect(source).toMatch(/Name \(_HID, "LNRO0005"\)/);
    expect(source).toMatch(/EisaId \("PNP0501"\)/);
    expect(source).toMatch(/Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive/);
    expect(source).toMatch(/Memory32Fixed \(ReadWrite,\s+0xD000C000,.*\s+0x00000200,/);
    expect(source).toMatch(/Name \(_CID, "VM_Gen_Counter"\)/);
    expect(source).toMatch(/Name \(ADDR, Package \(0x02\)\s+{\s+0x000EF000,\s+Zero/);
    expect(source).toMatch(/Method \(_EVT, 1, Serialized\).*\s+{\s+Notify \(VGEN, 0x80\)/);
    // And it can be compiled again.
    const again = spawnSync('iasl', ['table.dsl'], { cwd: directory });
    expect(again.stdout.toString()).toMatch(/ 0 Errors/);
  });
});

describe('writeAcpiTables()', () => {
  it('links RSDP, XSDT, FADT, DSDT and MADT', () => {
    const memory = ram(1 << 20);
    expect(writeAcpiTables(memory, { cpus: 2, devices })).toBe(ACPI_ADDR);
    const pointer = memory.read(ACPI_ADDR, 36);
    expect(Buffer.from(pointer.subarray(0, 8)).toString()).toBe('RSD PTR ');
    expect(pointer[15]).toBe(2);
    expect(sum(pointer.subarray(0, 20))).toBe(0);
    expect(sum(pointer)).toBe(0);
    const signatureAt = (addr: number): string => Buffer.from(memory.read(addr, 4)).toString();
    const list = memory.readU64(ACPI_ADDR + 24);
    expect(signatureAt(list)).toBe('XSDT');
    const [facp, apic] = [memory.readU64(list + 36), memory.readU64(list + 44)];
    expect([signatureAt(facp), signatureAt(apic)]).toEqual(['FACP', 'APIC']);
    expect(signatureAt(memory.readU64(facp + 140))).toBe('DSDT');
    expect(memory.readU32(facp + 40)).toBe(memory.readU64(facp + 140));
  });
});

describe('fadt()', () => {
  it('is hardware-reduced, with sleep and reset registers at their ports (4.8.3.7, 4.8.3.6)', () => {
    const view = viewOf(fadt(0xe0040));
    expect(view.byteLength).toBe(276);
    expect(view.getUint32(112, true) & (1 << 20)).not.toBe(0);
    expect(view.getUint32(112, true) & (1 << 10)).not.toBe(0);
    const register = (offset: number): (number | bigint)[] => [
      view.getUint8(offset),
      view.getUint8(offset + 1),
      view.getBigUint64(offset + 4, true),
    ];
    expect(register(116)).toEqual([1, 8, 0x602n]);
    expect(view.getUint8(128)).toBe(1);
    expect(register(244)).toEqual([1, 8, 0x600n]);
    expect(register(256)).toEqual([1, 8, 0x601n]);
  });
});

describe('madt()', () => {
  it('lists each local APIC, then the IOAPIC with an id of its own', () => {
    const table = madt(2);
    const entries = [...table.subarray(44)];
    expect(entries.slice(0, 8)).toEqual([0, 8, 0, 0, 1, 0, 0, 0]);
    expect(entries.slice(8, 16)).toEqual([0, 8, 1, 1, 1, 0, 0, 0]);
    expect(entries.slice(16, 28)).toEqual([1, 12, 2, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
  });
});

describe('aml', () => {
  it('encodes integers in the shortest form', () => {
    expect(
      [0, 1, 2, 0xff, 0x100, 0x1_0000].map((value) => Buffer.from(aml.integer(value)).toString('hex')),
    ).toEqual(['00', '01', '0a02', '0aff', '0b0001', '0c00000100']);
  });

  it('compresses EISA identifiers (19.3.4)', () => {
    expect(Buffer.from(aml.eisaId('PNP0501')).toString('hex')).toBe('0c41d00501');
    expect(() => aml.eisaId('LNRO0005')).toThrowError(/EISA/);
  });

  it.each([
    [62, '3f'],
    [63, '4104'],
    [0xffd, '4fff'],
    [0xffe, '810001'],
  ])('counts the length of a package in itself (20.2.4), body of %i bytes', (length, hex) => {
    const nameBytes = 5;
    const encoded = aml.scope('\\_SB', new Uint8Array(length - nameBytes));
    expect(Buffer.from(encoded.subarray(1, 1 + hex.length / 2)).toString('hex')).toBe(hex);
  });

  it('refuses names that are none', () => {
    expect(() => aml.nameString('com1')).toThrowError(/ACPI name/);
    expect(() => aml.nameString('TOOLONG')).toThrowError(/ACPI name/);
    expect(Buffer.from(aml.nameString('\\_S5')).toString()).toBe('\\_S5_');
  });
});
