from __future__ import annotations
import numpy as np, math
from strategies.dp.backpropagation import BLOCK_ROWS, Backpropagation
FRACTION_BITS = 36
_BELOW_ONE = 1.0-2.0**-40
_ZERO = 1<<28
def clipped_sum(model, vector, x, y, *, clip, weights, units=None):
    total=[np.zeros((l.outputs,l.inputs+1),dtype=np.int64) for l in model.layers]
    run=Backpropagation(model,vector)
    side=np.where(y>0.5, weights.positive, weights.negative)
    with np.errstate(all='ignore'):
      for first in range(0,len(x),BLOCK_ROWS):
        part=slice(first,first+BLOCK_ROWS)
        run.run(x[part],y[part],side[part])
        add(run.layers, clip, total)
    return np.concatenate([p for t in total for p in (t[:,:-1].ravel(), t[:,-1])])
def add(layers, clip, total):
    n=len(layers)
    A2=np.empty((n,256)); D2=np.empty((n,256)); ex=np.empty((n,256),dtype=np.int32)
    for i,l in enumerate(layers):
        np.einsum('ij,ij->j',l.inputs,l.inputs,out=A2[i])
        np.einsum('ij,ij->j',l.deltas,l.deltas,out=D2[i])
        np.add(l.input_exponents,l.delta_exponents,out=ex[i])
    squares=A2*D2
    ex[squares==0]=_ZERO
    X=ex.min(axis=0)
    ex-=X
    norm=np.sqrt(np.ldexp(squares, -2*ex).sum(axis=0))
    cm,ce=math.frexp(clip)
    g=np.minimum(np.ldexp(1/cm,-ce-X), _BELOW_ONE/norm)
    g[norm==0]=0
    s=np.ldexp(g,FRACTION_BITS-ex)
    c=np.array([[round(math.log2(len(l.deltas)/len(l.inputs)))] for l in layers],dtype=np.int32)
    al=(np.frexp(A2)[1]-np.frexp(D2)[1]-2*np.frexp(s)[1]+c)>>2
    np.minimum(np.maximum(al,0,out=al),60,out=al)
    down=np.ldexp(1.0,-al); up=np.ldexp(s,al)
    for i,l in enumerate(layers):
        np.multiply(l.inputs,down[i],out=l.inputs); np.trunc(l.inputs,out=l.inputs)
        np.multiply(l.deltas,up[i],out=l.deltas); np.trunc(l.deltas,out=l.deltas)
        total[i]+=(l.deltas@l.inputs.T).astype(np.int64)
def gradient_value(total, clip): return np.ldexp(total.astype(float),-FRACTION_BITS)*clip
