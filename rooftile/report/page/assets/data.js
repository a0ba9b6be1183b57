// What the page shows, unpacked from the two blocks that stand in it, and where the reader is.

async function unpack(id) {
  const packed = atob(document.getElementById(id).textContent.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const data = { report: null, programs: [], sources: {}, kernels: [] };
const here = {
  view: "overview",
  program: 0,
  kernel: null,
  tab: "summary",
  stage: null,
  mode: "diff",
  wrap: false,
  query: "",
};

// One entry for each kernel of the report, with the program and the step that it stands for: first those of every call,
// then those that are computed once, which are no step.
function takeContent(content) {
  Object.assign(data, content);
  const take = (rows, found, step) => {
    const index = data.kernels.length;
    data.kernels.push({ ...rows[index], ...found, step, index });
  };
  data.programs.forEach((program, number) => {
    program.base = data.kernels.length;
    program.kernels.forEach((kernel, step) => take(data.report.kernels, { ...kernel, program: number }, step));
  });
  const rows = [...data.report.kernels, ...data.report.packed];
  data.programs.forEach((program, number) => {
    for (const kernel of program.packed) take(rows, { ...kernel, program: number }, null);
  });
}

const isCalled = (kernel) => kernel.step !== null;
const called = () => data.kernels.filter(isCalled);
const once = () => data.kernels.filter((kernel) => !isCalled(kernel));

const program = () => data.programs[here.program];
const kernelsHere = () => data.kernels.filter((kernel) => kernel.program === here.program);
// Its step in the graph that is shown; nothing where it is not in that, or is no step.
const stepHere = () =>
  here.kernel !== null && data.kernels[here.kernel].program === here.program ? data.kernels[here.kernel].step : null;
const kernelAt = (step) => data.kernels[program().base + step];

// The texts, IR and kernels, are unpacked when the first is asked for.
let unpacked = null;
async function textOf(number) {
  unpacked ??= unpack("texts");
  const { lines, documents } = await unpacked;
  let line = 0;
  return documents[number].map((step) => lines[(line += step)]);
}

const spent = (kernel) => kernel.time_us ?? kernel.roofline?.estimate_us ?? null;
const timesFloor = (kernel) => (spent(kernel) !== null && kernel.floor_us ? spent(kernel) / kernel.floor_us : null);
const measured = () => called().some((kernel) => kernel.time_us !== null);
// Which kernels of a graph read or write a buffer, and why it is in memory: [why, what would change that].
const readersOf = (name) => called().filter((kernel) => kernel.reads.includes(name));
const writersOf = (name) => called().filter((kernel) => kernel.writes.includes(name));
const whyStored = (name, number) => data.programs[number].stored[withoutPrefix(name)] ?? null;
const bufferNamed = (name) => data.report.buffers.find((buffer) => buffer.name === name);
const withoutPrefix = (name) => name.replace(/^\d+\//, "");
