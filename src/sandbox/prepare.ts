/** First things that are done in a new sandbox by its agent. */
import type { Agent } from '../agent/agent.js';
import type { Abortable } from '../util/abort.js';
import { userInSandbox } from './accounts.js';
import type { CommandDefaults } from './command.js';
import type { Surroundings } from './root.js';

const SUPERUSER = { uid: 0, gid: 0, home: '/root' };

/** Looks up the user of commands and makes their working directory. */
export async function prepareDefaults(
  name: string,
  agent: Agent,
  { env, cwd, user }: Surroundings,
  options: Abortable,
): Promise<CommandDefaults> {
  const found = await userOf(name, agent, user, options);
  if (cwd !== '/') await agent.files.mkdir(cwd, { parents: true, ...options });
  return { env, cwd, user: found };
}

async function userOf(name: string, agent: Agent, user: string | number, options: Abortable) {
  // A new sandbox need not be asked for the one that each has.
  if (user === 0 || user === '0' || user === 'root') return SUPERUSER;
  return await userInSandbox(
    name,
    (path, length, abortable) => agent.files.read(path, { length, ...abortable }),
    user,
    options,
  );
}
