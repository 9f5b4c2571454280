/** The contract with guests/init, of which each side has its own copy. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  CHANNEL_PORTS,
  MARK,
  MAX_ENTROPY_BYTES,
  MAX_MESSAGE_BYTES,
  OFFER,
  OFFER_AGENT,
  PROTOCOL_VERSION,
  STOP_PORTS,
} from '../../../src/guest/protocol.js';
import { ACPI_POWER_PORT, BOOT_MARKS_PORT } from '../../../src/memory/layout.js';
import { MAX_GROUPS } from '../../../src/util/ids.js';

/** Values of the enumerations of guests/init/protocol.h. */
function constantsOfInit(): Map<string, number> {
  const text = readFileSync(new URL('../../../guests/init/protocol.h', import.meta.url), 'utf8');
  const found = new Map<string, number>();
  for (const [, body = ''] of text.replace(/\/\*.*?\*\//gs, '').matchAll(/enum \{(.*?)\};/gs)) {
    let next = 0;
    for (const entry of body.split(',').map((part) => part.trim())) {
      if (entry === '') continue;
      const [name = '', value] = entry.split(/\s*=\s*/);
      if (value !== undefined)
        next = found.get(value) ?? (/^'.'$/.test(value) ? value.charCodeAt(1) : Number(value));
      expect(Number.isInteger(next), entry).toBe(true);
      found.set(name, next++);
    }
  }
  return found;
}

test('guests/init/protocol.h and src/guest/protocol.ts say the same', () => {
  const port = (name: string): number => (CHANNEL_PORTS as readonly string[]).indexOf(`tsvm.${name}`) + 1;
  expect(Object.fromEntries(constantsOfInit())).toEqual({
    PROTOCOL_VERSION,
    PORT_MARK: BOOT_MARKS_PORT,
    PORT_EXIT_STATUS: BOOT_MARKS_PORT + 1,
    PORT_VERSION: BOOT_MARKS_PORT + 1,
    PORT_AGENT: BOOT_MARKS_PORT + 2,
    PORT_SLEEP_CONTROL: ACPI_POWER_PORT,
    MARK_INIT: MARK.INIT,
    MARK_COMMAND: MARK.COMMAND,
    MARK_READY: MARK.READY,
    MARK_DONE: MARK.DONE,
    MARK_FULL: MARK.ROOT_FULL,
    MARK_AGENT: MARK.AGENT,
    OFFER_CHANNEL: OFFER.CHANNEL,
    OFFER_STOP_PORT: OFFER.STOP_PORT,
    OFFER_AGENT,
    CONTROL: port('control'),
    IN: port('stdin'),
    OUT: port('stdout'),
    ERR: port('stderr'),
    PORTS: CHANNEL_PORTS.length + 1,
    MAX_MESSAGE_BYTES,
    MAX_ENTROPY_BYTES,
    MAX_GROUPS: MAX_GROUPS + 1,
  });
  expect(STOP_PORTS).toHaveLength(1);
});
