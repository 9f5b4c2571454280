/**
 * VM generation ID (Microsoft, "Virtual Machine Generation ID"): 16 bytes in guest memory that no other machine has, and an interrupt when
 * they have changed, since the machine is a copy. Linux from 5.18 on takes new random numbers then (drivers/virt/vmgenid.c). The guest
 * learns of it from the DSDT (boot/acpi.ts).
 *
 * @spec vm-generation-id "ADDR"  Identifier, its address, notification  #yes
 */
import type { Irq } from '../../bus/irq.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { VM_GENERATION_ADDR } from '../../memory/layout.js';

export class VmGeneration {
  readonly #memory: GuestMemory;
  readonly #irq: Irq;
  readonly #id: Uint8Array;
  #isDeclared = false;
  /** A copy has its original's, until it goes on. */
  #isStale = false;

  /** @param id - 16 random bytes, which no other machine has */
  constructor(memory: GuestMemory, irq: Irq, id: Uint8Array) {
    this.#memory = memory;
    this.#irq = irq;
    this.#id = id;
  }

  /** Gives a guest its identifier, before it boots, if its ACPI tables declare it. */
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
    this.#memory.write(VM_GENERATION_ADDR, this.#id);
  }
}
