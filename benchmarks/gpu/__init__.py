r"""A reader in a quarter of an hour on a machine with one GPU, where nothing can be downloaded.

On the machine that has the project, texts and questions (`make gpu DATA=FOLDER` does the same, with wheels):

    python -m benchmarks.gpu pack --wheels .cache/wheels --answers own.jsonl \
        --data.texts.folder=FOLDER --data.questions.folder=FOLDER

writes `pack.0`, `pack.1`, … of at most 60 MB (`--part-size`) and `pack.json` to `.cache/gpu`: the decoder in the 4-bit
blocks it was dequantized from, which is exact (97 MB for SmolLM2-135M instead of 269; others as they are), documents as
tokens in uint16, questions, settings, and wheels that the other machine may lack. With `--answers`, the decoder's own
(`ragx train answers`), it writes none there.

On the machine with the GPU, in a checkout, with its own torch, transformers, accelerate and safetensors, once all parts
have arrived, in one or several uploads. If the checkout is uploaded with each, leave out the weights of bundled models:
`git sparse-checkout set --no-cone '/*' '!/weights/**/*.safetensors'`.

    python -m benchmarks.gpu run PARTS… --out OUT

or, where a command may not take ten minutes:

    python -m benchmarks.gpu run PARTS… --out OUT/1 --train=0
    python -m benchmarks.gpu run PARTS… --out OUT/2 --checks=0 --bench=0

`PARTS` are files or folders. No environment variable is needed; whatever is unpacked or trained is in `--work`
(/tmp/ragx-gpu), and another command continues from there. Settings such as `--loop.micro_batch=32` change the training.
Each part is a process with a time in seconds, and its failure does not stop the others:

    checks   120   kernels and gradients against exact ones, FSDP, 8 and 4 bits, FAISS, pytest on the kernels
    train    360   the packed curriculum, compiled if that is faster; below 30 % of the matrix rate with a profile
    bench    120   first token, decoding at 2K to 128K tokens, each attention strategy

On one busy CPU core, with a decoder of two layers, torch 2.11 and transformers 5.17, these took 53, 88 and 129 s, most
of it for imports: the checks themselves 5 s, six steps of training 3 s.

OUT has at most 8 files of at most 16 MiB: report.md, log.txt, profile-*.txt, and the int8 reader with its card and
curves as reader.0, … and reader.json. Back home:

    python -m benchmarks.gpu join OUT --out FOLDER
    ragx ask QUESTION --model FOLDER
"""
