/**
 * ACPI tables (ACPI 6.5): a hardware-reduced platform, whose only power management is a sleep control and a reset
 * register, and whose devices are declared in a DSDT.
 *
 * Linux drops the 8259 and the PIT on such a platform (arch/x86/kernel/acpi/boot.c,
 * `acpi_generic_reduced_hw_init`): interrupts of legacy devices exist only if the DSDT names them, and the local APIC
 * timer must do without calibration by the PIT, which CPUID's TSC-deadline bit or KVM's clock provides.
 *
 * @spec acpi-6.5 4.1     Hardware-reduced ACPI  #yes
 * @spec acpi-6.5 5.2.5   RSDP                   #yes
 * @spec acpi-6.5 5.2.8   XSDT                   #yes
 * @spec acpi-6.5 5.2.9   FADT                   #yes
 * @spec acpi-6.5 5.2.11  DSDT                   #yes
 * @spec acpi-6.5 5.2.12  MADT                   #yes
 * @spec virtio-1.3 4.2.1 MMIO device discovery  #yes
 */
import assert from 'node:assert';
import type { GuestMemory } from '../memory/guest-memory.js';
import {
  ACPI_ADDR,
  ACPI_END,
  ACPI_EVENT_IRQ,
  ACPI_POWER_PORT,
  ACPI_RESET_OFFSET,
  ACPI_RESET_VALUE,
  ACPI_S5_SLEEP_TYPE,
  ACPI_SLEEP_CONTROL_OFFSET,
  ACPI_SLEEP_STATUS_OFFSET,
  type Gpa,
  I8042_COMMAND_OFFSET,
  I8042_DATA_OFFSET,
  I8042_IRQ,
  I8042_PORT,
  IOAPIC_ADDR,
  LAPIC_ADDR,
  RTC_PORT,
  RTC_PORTS,
  SERIAL_IRQ,
  SERIAL_PORT,
  SERIAL_PORTS,
  VM_GENERATION_ADDR,
} from '../memory/layout.js';
import * as aml from './aml.js';
import { setChecksum, TableWriter } from './table-writer.js';

const HEADER_BYTES = 36;
const LENGTH_OFFSET = 4;
const CHECKSUM_OFFSET = 9;
const RSDP_BYTES = 36;
const RSDP_V1_BYTES = 20;
const RSDP_V1_CHECKSUM = 8;
const RSDP_CHECKSUM = 32;
const TABLE_ALIGN = 16;

const OEM_ID = 'TSVM';
const OEM_REVISION = 1;

// FADT, 5.2.9.
const FADT_REVISION = 6;
const FADT_MINOR = 5;
const FADT_BYTES = 276;
const FADT = {
  dsdt: 40,
  iapcBootArch: 109,
  flags: 112,
  resetReg: 116,
  resetValue: 128,
  minorVersion: 131,
  xDsdt: 140,
  sleepControlReg: 244,
  sleepStatusReg: 256,
} as const;
const IAPC_LEGACY_DEVICES = 1 << 0;
const IAPC_8042 = 1 << 1;
const IAPC_VGA_NOT_PRESENT = 1 << 2;
const FADT_WBINVD = 1 << 0;
const FADT_PWR_BUTTON = 1 << 4;
const FADT_SLP_BUTTON = 1 << 5;
const FADT_RESET_REG_SUP = 1 << 10;
const FADT_HW_REDUCED_ACPI = 1 << 20;
const SYSTEM_IO = 1;
const BYTE_ACCESS = 1;

// MADT, 5.2.12.
const MADT_REVISION = 5;
const MADT_PCAT_COMPAT = 1 << 0;
const MADT_LAPIC = 0;
const MADT_IOAPIC = 1;
const MADT_LAPIC_NMI = 4;
const LAPIC_ENABLED = 1 << 0;
const ALL_PROCESSORS = 0xff;

/** A device on I/O ports. */
export interface PortDeviceRow {
  readonly name: string;
  readonly hid: string;
  readonly ports: readonly (readonly [port: number, length: number])[];
  readonly gsi?: number;
}

/** Linux needs COM1 and the keyboard here for their interrupts, and the RTC to know that it may touch it. */
export const DEFAULT_PORT_DEVICES: readonly PortDeviceRow[] = [
  { name: 'COM1', hid: 'PNP0501', ports: [[SERIAL_PORT, SERIAL_PORTS]], gsi: SERIAL_IRQ },
  { name: 'RTC0', hid: 'PNP0B00', ports: [[RTC_PORT, RTC_PORTS]] },
  {
    name: 'KBD0',
    hid: 'PNP0303',
    // Data, then commands and status: the order by which Linux tells them apart.
    ports: [
      [I8042_PORT + I8042_DATA_OFFSET, 1],
      [I8042_PORT + I8042_COMMAND_OFFSET, 1],
    ],
    gsi: I8042_IRQ,
  },
];

export interface AcpiOptions {
  readonly cpus: number;
  /** virtio-mmio devices (virtio 1.3, 4.2.1; in ACPI, LNRO0005). */
  readonly devices: readonly { readonly addr: Gpa; readonly length: number; readonly gsi: number }[];
  readonly portDevices?: readonly PortDeviceRow[];
}

/** Writes all tables; the result is the address of the RSDP. */
export function writeAcpiTables(memory: GuestMemory, options: AcpiOptions): Gpa {
  let at = ACPI_ADDR + RSDP_BYTES;
  const place = (table: Uint8Array): Gpa => {
    const addr = Math.ceil(at / TABLE_ALIGN) * TABLE_ALIGN;
    at = addr + table.length;
    assert(at <= ACPI_END, `the ACPI tables need ${at - ACPI_ADDR} bytes`);
    memory.write(addr, table);
    return addr;
  };
  const dsdtAddr = place(dsdt(options));
  const tables = [place(fadt(dsdtAddr)), place(madt(options.cpus))];
  memory.write(ACPI_ADDR, rsdp(place(xsdt(tables))));
  return ACPI_ADDR;
}

/** 5.2.5.3 */
export function rsdp(xsdtAddr: Gpa): Uint8Array {
  const bytes = new TableWriter()
    .text('RSD PTR ')
    .u8(0)
    .text(OEM_ID, 6)
    .u8(2)
    .u32(0) // no RSDT
    .u32(RSDP_BYTES)
    .u64(xsdtAddr)
    .zeros(4)
    .bytes();
  setChecksum(bytes.subarray(0, RSDP_V1_BYTES), RSDP_V1_CHECKSUM);
  return setChecksum(bytes, RSDP_CHECKSUM);
}

/** 5.2.8 */
export function xsdt(tables: readonly Gpa[]): Uint8Array {
  const body = new TableWriter();
  for (const addr of tables) body.u64(addr);
  return table('XSDT', 1, body.bytes());
}

export function fadt(dsdtAddr: Gpa): Uint8Array {
  const bytes = new Uint8Array(FADT_BYTES);
  const view = new DataView(bytes.buffer);
  const register = (offset: number, port: number): void => {
    bytes.set(new TableWriter().u8(SYSTEM_IO, 8, 0, BYTE_ACCESS).u64(port).bytes(), offset);
  };
  // 5.2.9: DSDT is ignored where X_DSDT is set, but must agree with it.
  view.setUint32(FADT.dsdt, dsdtAddr, true);
  view.setBigUint64(FADT.xDsdt, BigInt(dsdtAddr), true);
  view.setUint16(FADT.iapcBootArch, IAPC_LEGACY_DEVICES | IAPC_8042 | IAPC_VGA_NOT_PRESENT, true);
  view.setUint32(
    FADT.flags,
    FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP | FADT_HW_REDUCED_ACPI,
    true,
  );
  register(FADT.resetReg, ACPI_POWER_PORT + ACPI_RESET_OFFSET);
  view.setUint8(FADT.resetValue, ACPI_RESET_VALUE);
  view.setUint8(FADT.minorVersion, FADT_MINOR);
  register(FADT.sleepControlReg, ACPI_POWER_PORT + ACPI_SLEEP_CONTROL_OFFSET);
  register(FADT.sleepStatusReg, ACPI_POWER_PORT + ACPI_SLEEP_STATUS_OFFSET);
  return table('FACP', FADT_REVISION, bytes.subarray(HEADER_BYTES));
}

export function madt(cpus: number): Uint8Array {
  const body = new TableWriter().u32(LAPIC_ADDR).u32(MADT_PCAT_COMPAT);
  for (let apicId = 0; apicId < cpus; apicId++) body.u8(MADT_LAPIC, 8, apicId, apicId).u32(LAPIC_ENABLED);
  // No interrupt source overrides: KVM's default routing connects ISA line n, the timer's 0 included, to pin n.
  body.u8(MADT_IOAPIC, 12, cpus, 0).u32(IOAPIC_ADDR).u32(0);
  body.u8(MADT_LAPIC_NMI, 6, ALL_PROCESSORS).u16(0).u8(1);
  return table('APIC', MADT_REVISION, body.bytes());
}

export function dsdt({ devices, portDevices = DEFAULT_PORT_DEVICES }: AcpiOptions): Uint8Array {
  const terms = [
    ...portDevices.map(({ name, hid, ports, gsi }) =>
      aml.device(
        name,
        aml.name('_HID', aml.eisaId(hid)),
        aml.name('_UID', aml.integer(0)),
        aml.name(
          '_CRS',
          aml.resourceTemplate(
            ...ports.map(([port, length]) => aml.ioPorts(port, length)),
            ...(gsi === undefined ? [] : [aml.interrupt(gsi)]),
          ),
        ),
      ),
    ),
    ...devices.map(({ addr, length, gsi }, i) =>
      aml.device(
        `V${i.toString(16).toUpperCase().padStart(3, '0')}`,
        aml.name('_HID', aml.string('LNRO0005')),
        aml.name('_UID', aml.integer(i)),
        aml.name('_CRS', aml.resourceTemplate(aml.memory32Fixed(addr, length), aml.interrupt(gsi))),
      ),
    ),
    ...vmGeneration(),
  ];
  const sleepState = aml.pkg(aml.integer(ACPI_S5_SLEEP_TYPE), aml.integer(0), aml.integer(0), aml.integer(0));
  const body = new TableWriter().append(aml.name('\\_S5', sleepState)).append(aml.scope('\\_SB', ...terms));
  return table('DSDT', 2, body.bytes());
}

/** Notification that a device's own specification defines (5.6.6). */
const DEVICE_SPECIFIC_NOTIFICATION = 0x80;

/**
 * The device that tells a guest that it is a copy (Microsoft, "Virtual Machine Generation ID"; drivers/virt/vmgenid.c): ADDR has the address of
 * the identifier in two halves. Its notification comes by a generic event device (5.6.9), all that a hardware-reduced platform has for events.
 */
function vmGeneration(): aml.Aml[] {
  const address = aml.pkg(aml.integer(VM_GENERATION_ADDR), aml.integer(0));
  return [
    aml.device(
      'VGEN',
      aml.name('_HID', aml.string('TSVM0001')),
      aml.name('_CID', aml.string('VM_Gen_Counter')),
      aml.name('_DDN', aml.string('VM_Gen_Counter')),
      aml.name('ADDR', address),
    ),
    aml.device(
      'GED0',
      aml.name('_HID', aml.string('ACPI0013')),
      aml.name('_UID', aml.integer(0)),
      aml.name('_CRS', aml.resourceTemplate(aml.interrupt(ACPI_EVENT_IRQ))),
      aml.method('_EVT', 1, aml.notify('VGEN', DEVICE_SPECIFIC_NOTIFICATION)),
    ),
  ];
}

/** A system description table: the common header (5.2.6) and a body. */
function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new TableWriter()
    .text(signature)
    .u32(HEADER_BYTES + body.length)
    .u8(revision, 0)
    .text(OEM_ID, 6)
    .text(OEM_ID, 8)
    .u32(OEM_REVISION)
    .text(OEM_ID, 4)
    .u32(OEM_REVISION)
    .append(body)
    .bytes();
  assert(new DataView(bytes.buffer).getUint32(LENGTH_OFFSET, true) === bytes.length);
  return setChecksum(bytes, CHECKSUM_OFFSET);
}
