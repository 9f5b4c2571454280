/** Connections to the agent of a machine or container of another process, over its control socket. */
import type { DialAgent } from '../../agent/connection.js';
import { ControlClient } from './client.js';

/**
 * @param socketPath - of the control API
 * @param name - of the machine or container, for messages
 */
export function dialAgent(socketPath: string, name = socketPath): DialAgent {
  const client = new ControlClient(socketPath, name);
  return async (options) => await client.dialAgent(options);
}
