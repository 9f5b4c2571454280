/** `GET /tsvm/agent`: connections to the agent, each made anew, for whoever has the control socket. */
import type { Duplex } from 'node:stream';
import { ApiError } from '../api-error.js';
import { type Instance, NOT_YET } from '../instance.js';
import { route, type Upgrade } from './route.js';

/** Connections to one machine's agent at once; each serves a client's commands, files and ports together. */
const MAX_CONNECTIONS = 256;

const AGENT = { protocol: 'tsvm-agent', take: connectToAgent } satisfies Upgrade;

export const agentRoute = route({
  method: 'GET',
  path: '/tsvm/agent',
  operationId: 'dialAgent',
  summary: 'with Upgrade: tsvm-agent, a new connection to the agent, both ways (docs/agent.md)',
  when: 'after start',
  handle() {
    throw new ApiError(
      'This path is for a connection: ask with Connection: Upgrade and Upgrade: tsvm-agent.',
    );
  },
  upgrade: AGENT,
});

async function connectToAgent(instance: Instance, client: Duplex, accept: () => void): Promise<void> {
  const { dialAgent, agentClients } = instance;
  if (dialAgent === undefined) throw new ApiError(NOT_YET);
  if (agentClients.size >= MAX_CONNECTIONS) {
    throw new ApiError(`Its agent has ${MAX_CONNECTIONS} connections already: close one.`);
  }
  agentClients.add(client);
  client.once('close', () => void agentClients.delete(client));
  const agent = await whileThere(client, async (signal) => await dialAgent({ signal }));
  agent.on('error', () => {}); // `close` follows
  accept();
  splice(client, agent);
  splice(agent, client);
}

/** Does what is aborted when the client goes. What it sends meanwhile waits. */
async function whileThere<T>(client: Duplex, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const gone = new AbortController();
  const leave = (): void => gone.abort(new ApiError('The client has gone.'));
  const look = (): void => {
    // Of a stream with nothing in it, this is how its end is heard.
    if (client.readableLength === 0) client.read(0);
  };
  client.on('readable', look).once('end', leave).once('close', leave);
  try {
    return await act(gone.signal);
  } finally {
    client.off('readable', look).off('end', leave).off('close', leave);
  }
}

/** Moves bytes at the pace of who takes them. An end is passed on, and so is a loss. */
function splice(from: Duplex, to: Duplex): void {
  from.pipe(to);
  from.once('close', () => {
    if (from.readableEnded) to.end(() => to.destroy());
    else to.destroy();
  });
}
