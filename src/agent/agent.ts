/** Agent in a machine or container, as its clients use it. */
import type { Abortable } from '../util/abort.js';
import type { AgentCommand } from './command.js';
import type { DialAgent } from './connection.js';
import { type AgentFacts, readFacts } from './facts.js';
import { type AgentFiles, agentFiles } from './files.js';
import { AgentLink } from './link.js';
import { type AgentPorts, agentPorts } from './ports.js';
import { type AgentProcess, attachProcess, spawnProcess } from './process.js';
import { type AgentProcessFacts, forgetProcess, listProcesses } from './process-list.js';

/** Client of one agent. What it started goes on when it is closed, and is found again by its number. */
export interface Agent extends AsyncDisposable {
  /**
   * Executes a command.
   *
   * @throws TsvmError `TSVM_COMMAND_NOT_FOUND` if there is no such program, `TSVM_COMMAND` if it cannot be executed as it was asked for,
   * `TSVM_CONFIG` for a command that is none, `TSVM_AGENT` if the agent cannot be reached.
   */
  spawn(command: AgentCommand, options?: Abortable): Promise<AgentProcess>;
  /** Reads a command that goes on; the one who read it before does no longer. @throws TsvmError `TSVM_STATE` if there is none */
  attach(id: number, options?: Abortable): Promise<AgentProcess>;
  /** Lists the commands that run, and those that ended last. */
  processes(options?: Abortable): Promise<readonly AgentProcessFacts[]>;
  /** Forgets a command that has ended. @throws TsvmError `TSVM_STATE` if it runs, or there is none */
  forget(id: number): Promise<void>;
  /** Tells the load, memory and disk of the moment. */
  facts(options?: Abortable): Promise<AgentFacts>;
  readonly files: AgentFiles;
  readonly ports: AgentPorts;
  /** Closes the connection to the agent. What is under way on it fails. */
  close(): void;
}

/** Makes the client of one agent. It dials when it is first asked for something, keeps that connection, and dials anew when it was lost. */
export function agentOf(dial: DialAgent): Agent {
  const link = new AgentLink(dial);
  const { open } = link;
  return {
    spawn: (command, options = {}) => spawnProcess(open, command, options),
    attach: (id, options = {}) => attachProcess(open, id, options),
    processes: (options = {}) => listProcesses(open, options),
    forget: (id) => forgetProcess(open, id),
    facts: (options = {}) => readFacts(open, options),
    files: agentFiles(open),
    ports: agentPorts(open),
    close: () => void link.close(),
    [Symbol.asyncDispose]: () => link.close(),
  };
}
