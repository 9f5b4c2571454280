/** The `tsvm` command: its process. */
import { complain } from './complain.js';
import { runProgram } from './program.js';

// A reader that goes away (`| head`) has what it wanted; what else there is to say goes nowhere.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

// So has one of what it complains of: a machine is not ended for it.
process.stderr.on('error', () => {});

// A line for each of tsvm's own warnings, as for errors: Node's listener, which has the others, adds how to find the place in the program.
// What is deprecated (Buffer() in seek-bzip) is no concern of a user's.
const listeners = process.listeners('warning');
process.removeAllListeners('warning');
process.on('warning', (warning) => {
  if (warning.name === 'TsvmWarning') complain(`tsvm: ${warning.message}`);
  else if (warning.name !== 'DeprecationWarning') for (const listener of listeners) listener(warning);
});

runProgram(process.argv).then((status) => {
  if (status !== undefined) process.exitCode = status;
});
