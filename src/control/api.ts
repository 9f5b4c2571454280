/** What `tsvm api` needs, in one piece that is loaded when it is needed. */
export { ConsoleLog } from './console-log.js';
export { configure } from './firecracker/config-file.js';
export { Instance } from './instance.js';
export { instanceEnd } from './instance-end.js';
export { ControlServer } from './server.js';
