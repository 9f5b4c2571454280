/** The part of seek-bzip that is used; the package has no types of its own. */
declare module 'seek-bzip' {
  interface Input {
    readByte(): number;
    read(buffer: Uint8Array, offset: number, length: number): number;
  }
  const bzip: { decode(input: Input, output: { writeByte(byte: number): void }): void };
  // biome-ignore lint/style/noDefaultExport: this is how the package exports it
  export default bzip;
}
