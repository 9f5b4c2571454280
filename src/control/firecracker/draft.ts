/** Draft of a machine in Firecracker's words; of a machine that is there, those words for it. */
import type { Machine } from '../../machine/machine.js';
import type { MachineSpec } from '../../machine/spec.js';
import { MIB } from '../../util/units.js';
import type { Draft } from '../draft.js';
import type { AnsweredRequest, Instance } from '../instance.js';
import { checkSetup, limitCards, type Setup, setupOf, specOfSetup } from './setup.js';

/** Draft that requests fill in, one by one. */
export class FirecrackerDraft implements Draft {
  readonly #instance: Instance;
  /** Setup that was asked for so far. */
  #asked: Setup = {};

  constructor(instance: Instance) {
    this.#instance = instance;
    instance.onAnswer = (request) => this.#log(request);
  }

  /** Setup that was asked for; of a machine that was made otherwise, as far as these words can say it. */
  get setup(): Setup {
    const { hasStarted } = this.#instance;
    return hasStarted ? { ...setupOf(this.#instance.machine.config), ...this.#asked } : this.#asked;
  }

  /** Asks for more, or for something in the place of what was asked for. */
  set(change: Setup): void {
    this.#asked = { ...this.#asked, ...change };
  }

  async spec(): Promise<MachineSpec> {
    return await specOfSetup(this.#asked);
  }

  adjust(machine: Machine): void {
    adjust(this.#asked, machine);
  }

  #log({ method, url, status }: AnsweredRequest): void {
    const { id, logFiles } = this.#instance;
    const { logger } = this.#asked;
    if (logger?.log_path === undefined || /^(off|error|warn)/i.test(logger.level ?? 'info')) return;
    const level = logger.show_level === true ? 'Info ' : '';
    const line = `${new Date().toISOString()} [${id}] ${level}${method} ${url} ${status}\n`;
    logFiles.at('log', logger.log_path).write(line);
  }
}

/** The draft of an instance, which speaks these words from now on if it did not. */
export function draftOf(instance: Instance): FirecrackerDraft {
  if (instance.draft instanceof FirecrackerDraft) return instance.draft;
  const draft = new FirecrackerDraft(instance);
  instance.draft = draft;
  return draft;
}

/** Draft that is there at once. */
export function draftOfSetup(setup: Setup): Draft {
  return {
    async spec() {
      await checkSetup(setup);
      return await specOfSetup(setup);
    },
    adjust: (machine) => adjust(setup, machine),
  };
}

/** Sets what is no part of a spec: a balloon's target, and the limits of a card for each direction. */
function adjust(setup: Setup, machine: Machine): void {
  machine.balloon?.setTarget((setup.balloon?.amount_mib ?? 0) * MIB);
  limitCards(machine.cards, setup['network-interfaces'] ?? []);
}
