/** Agent of a machine or container that has a name, over its control socket. */
import { type Agent, agentOf } from '../../agent/agent.js';
import { dialAgent } from '../../control/client/dial-agent.js';
import { runningMachine } from './running.js';

/** @throws TsvmError `TSVM_STATE` if nothing of that name runs. */
export function agentOfNamed(name: string): Agent {
  const { folder } = runningMachine(name);
  return agentOf(dialAgent(folder.socketPath, name));
}
