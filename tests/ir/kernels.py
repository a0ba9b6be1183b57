"""Kernels and graphs as text that several tests read."""

from __future__ import annotations

COPY = """
symbols s: 1..
kernel copy(%x: f32[s], %y: f32[s]) {
    axis t = s : grid(8)
    with grid=[t], group=none, num_warps=4, num_stages=2, outputs=1
    %load = load(%x[t], guard=[t < s]) : f32[t=8]
    store(%y[t], %load, guard=[t < s])
}
"""

ROW_SOFTMAX = """
symbols n: 1..
kernel softmax(%x: f32[n, 50], %y: f32[n, 50]) {
    axis r = n : grid(4)
    axis c = 50 : loop(16)
    with grid=[r], group=none, num_warps=4, num_stages=2, outputs=1
    %low = constant(value=-inf) : f32[r=4]
    %zero = constant(value=0.0) : f32[r=4]
    %max = loop(%low, axis=c) : f32[r=4]
        body c(%m: f32[r=4]) {
            %load = load(%x[r, c], guard=[r < n, c < 50], fill=-inf) : f32[r=4, c=16]
            %part = reduce.max(%load, axis=c) : f32[r=4]
            %next = pointwise.maximum(%m, %part) : f32[r=4]
            return %next
        }
    %sum = loop(%zero, axis=c) : f32[r=4]
        body c(%s: f32[r=4]) {
            %load = load(%x[r, c], guard=[r < n, c < 50], fill=-inf) : f32[r=4, c=16]
            %sub = pointwise.sub(%load, %max) : f32[r=4, c=16]
            %exp = pointwise.exp(%sub) : f32[r=4, c=16]
            %part = reduce.sum(%exp, axis=c) : f32[r=4]
            %next = pointwise.add(%s, %part) : f32[r=4]
            return %next
        }
    loop(axis=c)
        body c() {
            %load = load(%x[r, c], guard=[r < n, c < 50], fill=-inf) : f32[r=4, c=16]
            %sub = pointwise.sub(%load, %max) : f32[r=4, c=16]
            %exp = pointwise.exp(%sub) : f32[r=4, c=16]
            %div = pointwise.div(%exp, %sum) : f32[r=4, c=16]
            store(%y[r, c], %div, guard=[r < n, c < 50])
        }
}
"""

MATMUL = """
symbols k: 1.., m: 1..
kernel matmul(%a: bf16[m, k], %b: bf16[24, k], %bias: f32[24], %y: f32[m, 24]) {
    axis i = m : grid(16)
    axis j = 24 : grid(16)
    axis p = k : loop(32)
    with grid=[i, j], group=[i, 8], num_warps=4, num_stages=3, outputs=1
    %zero = constant(value=0.0) : f32[i=16, j=16]
    %acc = loop(%zero, axis=p) : f32[i=16, j=16]
        body p(%sum: f32[i=16, j=16]) {
            %x = load(%a[i, p], guard=[i < m, p < k], fill=0.0) : bf16[i=16, p=32]
            %w = load(%b[j, p], guard=[j < 24, p < k], fill=0.0) : bf16[j=16, p=32]
            %dot = dot(%x, %w, %sum, axis=p, precision="ieee") : f32[i=16, j=16]
            return %dot
        }
    %row = load(%bias[j], guard=[j < 24], fill=0.0) : f32[j=16]
    %add = pointwise.add(%acc, %row) : f32[i=16, j=16]
    store(%y[i, j], %add, guard=[i < m, j < 24])
}
"""

EMBEDDING = """
symbols n: 1..
kernel embed(%table: f32[10, 6], %ids: i64[n], %y: f32[n, 6]) {
    axis t = n : grid(4)
    axis c = 6 : whole(8)
    with grid=[t], group=none, num_warps=4, num_stages=2, outputs=1
    %id = load(%ids[t], guard=[t < n], fill=0) : i64[t=4]
    %row = load(%table[idx1, c], %id, guard=[t < n, c < 6, idx1 < 10]) : f32[t=4, c=8]
    %inside = inside(%id, guard=[idx1 < 5]) : b1[t=4]
    %position = index(expr=2 * c + 1) : i64[c=8]
    %number = cast(%position) : f32[c=8]
    %where = pointwise.where(%inside, %row, %number) : f32[t=4, c=8]
    store(%y[t, c], %where, guard=[t < n, c < 6])
}
"""

LAYER = """
symbols s: 2..64 % 2
graph layer(%x: bf16[b=2, t=s, c=8], %w: bf16[8, 8], %ids: i64[3]) {
    %wide = cast(%x) : f32[b=2, t=s, c=8]  @ "model.norm" /home/user/model.py:12
    %square = pointwise.mul(%wide, %wide) : f32[2, s, 8]
    %sum = reduce.sum(%square, dims=[2]) : f32[2, s]
    %column = reshape(%sum) : f32[2, s, 1]
    %again = expand(%column, dims=[0, 1, 2]) : f32[2, s, 8]
    %scaled = pointwise.div(%wide, %again) : f32[2, s, 8]
    %narrow = cast(%scaled) : bf16[2, s, 8]
    %y = contract[b=2, t=s, f=8, c=8](%narrow[b, t, c], %w[f, c], out=[b, t, f], acc=f32) : bf16[b=2, t=s, f=8]
    %rows = gather[n=3, c=8](%w[idx1, c], %ids[n]) : bf16[3, 8]
    %half = slice(%y, starts=[0, s // 2, 0], steps=[1, 1, 1]) : bf16[2, s // 2, 8]
    %values, %places = extern(%half, target="aten.topk.default", args=[$0, 2], kwargs={dim: -1})
        : bf16[2, s // 2, 2], i64[2, s // 2, 2]
    return %half, %rows, %values, %places
}
"""

REGION = """
symbols s: 1..
graph main(%x: f32[s, 5]) {
    %y = region(%x, name="double", axes={t: 5 * s}, defs=[], roles=[[t, grid, 8]], grid=[t], group=none,
                num_warps=4, num_stages=2) : f32[s, 5]  @ "model" model.py:3
        graph body(%x: f32[s, 5]) {
            %y = pointwise.add(%x, %x) : f32[s, 5]
            return %y
        }
        kernel double(%x: f32[s, 5], %y: f32[s, 5]) {
            axis t = 5 * s : grid(8)
            with grid=[t], group=none, num_warps=4, num_stages=2, outputs=1
            %load = load(%x[t // 5, t % 5], guard=[t < 5 * s]) : f32[t=8]
            %add = pointwise.add(%load, %load) : f32[t=8]
            store(%y[t // 5, t % 5], %add, guard=[t < 5 * s])
        }
    return %y
}
"""

ONE_PROGRAM = """
kernel one(%x: f32[], %y: f32[1]) {
    with grid=[], group=none, num_warps=1, num_stages=1, outputs=1
    %load = load(%x[]) : f32[]
    store(%y[0], %load)
}
"""

TEXTS = {
    "one_program": ONE_PROGRAM,
    "copy": COPY,
    "row_softmax": ROW_SOFTMAX,
    "matmul": MATMUL,
    "embedding": EMBEDDING,
    "layer": LAYER,
    "region": REGION,
}
