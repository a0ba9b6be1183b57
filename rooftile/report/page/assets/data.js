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

// One entry for each kernel of the report, with the program and the step that it stands for.
function takeContent(content) {
  Object.assign(data, content);
  data.programs.forEach((program, number) => {
    program.base = data.kernels.length;
    program.kernels.forEach((kernel, step) => {
      const row = data.report.kernels[data.kernels.length];
      data.kernels.push({
        ...row,
        source: kernel.source,
        masks: kernel.masks,
        program: number,
        step,
        index: data.kernels.length,
      });
    });
  });
}

const program = () => data.programs[here.program];
const kernelsHere = () => data.kernels.filter((kernel) => kernel.program === here.program);
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
const measured = () => data.kernels.some((kernel) => kernel.time_us !== null);
const bufferNamed = (name) => data.report.buffers.find((buffer) => buffer.name === name);
const withoutPrefix = (name) => name.replace(/^\d+\//, "");
