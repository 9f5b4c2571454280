/**
 * VM generation ID (Microsoft, "Virtual Machine Generation ID"): 16 bytes in guest memory that no other machine has, and an interrupt when
 * they have changed, since the machine is a copy. Linux from 5.18 on takes new random numbers then (drivers/virt/vmgenid.c). The guest
 * learns of it from the DSDT (boot/acpi.ts).
 *
 * @spec vm-generation-id "ADDR"  Identifier, its address, notification  #yes
 */
import { randomBytes } from 'node:crypto';
import type { Irq } from '../../bus/irq.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { VM_GENERATION_ADDR } from '../../memory/layout.js';

const ID_BYTES = 16;

export class VmGeneration {
  readonly #memory: GuestMemory;
  readonly #irq: Irq;
  #isDeclared = false;
  /** A copy has its original's, until it goes on. */
  #isStale = false;

  constructor(memory: GuestMemory, irq: Irq) {
    this.#memory = memory;
    this.#irq = irq;
  }

  /** Gives a guest its first one, before it boots, if its ACPI tables declare it. */
  begin(): void {
    this.#isDeclared = true;
    this.#write();
  }

  /** The machine is about to go on: gives a copy another one than its original's, and tells its guest. */
  resume(): void {
    if (!this.#isStale) return;
    this.#isStale = false;
    this.#write();
    this.#irq.trigger();
  }

  /** Says whether the guest has one. */
  save(): boolean {
    return this.#isDeclared;
  }

  /** Into a copy. @param fresh - whether it is to have another one */
  restore(isDeclared: boolean, fresh: boolean): void {
    this.#isDeclared = isDeclared;
    this.#isStale = isDeclared && fresh;
  }

  #write(): void {
    this.#memory.write(VM_GENERATION_ADDR, randomBytes(ID_BYTES));
  }
}
