/** What the dashboard fetches of the one machine that is looked at: its console and its timeline. */
import type { Readable } from 'node:stream';
import { RemoteMachine } from '../control/client/connect.js';
import { isRunning, type MachineFolder, type MachineStore } from '../control/machine-store.js';
import type { TimelineEntry } from '../machine/report/timeline.js';
import type { Closeup } from './detail.js';
import type { View } from './sampler.js';

/** Of the console. */
const MAX_CHARACTERS = 64 << 10;

export class CloseupSource implements Closeup {
  console = '';
  timeline: readonly TimelineEntry[] = [];
  #key: string | undefined;
  #stream: Readable | undefined;

  /** Fetches what is to be known of the machine that is looked at now. It may be gone by then, which the next look will show. */
  async look(view: View | undefined, store: MachineStore): Promise<void> {
    const key = view && `${view.name} ${view.record.createdMs}`;
    if (view === undefined || !isRunning(view.record)) {
      await this.#follow(undefined, key && `${key} ended`);
      return;
    }
    let folder: MachineFolder | undefined;
    try {
      folder = store.find(view.name).folder;
    } catch {
      // Somebody removed it.
    }
    await this.#follow(folder, key);
  }

  /** @param folder - of the machine that is looked at now; undefined: none, or one that has ended */
  async #follow(folder: MachineFolder | undefined, key: string | undefined): Promise<void> {
    if (key === this.#key) return;
    this.close();
    this.#key = key;
    this.console = '';
    this.timeline = [];
    if (folder === undefined || key === undefined) return;
    const machine = new RemoteMachine(folder.name, folder.socketPath);
    try {
      const { phases } = await machine.timeline();
      const stream = await machine.output();
      if (this.#key !== key) {
        stream.destroy();
        return;
      }
      this.timeline = phases;
      this.#stream = stream;
      stream.setEncoding('utf8').on('error', () => {}); // it ended
      stream.on('data', (text: string) => {
        this.console = (this.console + text).slice(-MAX_CHARACTERS);
      });
    } catch {
      // It is gone, which the next look will show.
    }
  }

  close(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
    this.#key = undefined;
  }
}
