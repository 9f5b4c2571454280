/** Files and ports of the agent's program, over one connection. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openConnection } from '../../src/agent/connection.js';
import { type AgentFiles, agentFiles } from '../../src/agent/files.js';
import { type AgentPorts, agentPorts } from '../../src/agent/ports.js';
import { type AgentProgram, startAgent } from './agent-program.js';

export interface AgentClient extends AsyncDisposable {
  readonly files: AgentFiles;
  readonly ports: AgentPorts;
  readonly program: AgentProgram;
  /** Folder that is removed at the end. */
  readonly folder: string;
}

/** Starts the agent, and connects to it. */
export async function agentClient(): Promise<AgentClient> {
  const program = await startAgent();
  const connection = await openConnection(() => program.dial());
  const folder = mkdtempSync(join(tmpdir(), 'tsvm-agent-files-'));
  return {
    files: agentFiles(async (ask) => connection.open(ask)),
    ports: agentPorts(async (ask) => connection.open(ask)),
    program,
    folder,
    async [Symbol.asyncDispose]() {
      await connection.close();
      await program[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
