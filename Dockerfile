# ddpm-bench for a machine with NVIDIA GPUs. CUDA 13.0 needs driver 580 or newer and the NVIDIA container toolkit.
#
#   docker build -t ddpm-bench .
#   mkdir -p runs reports data
#   docker run --rm -it --gpus all -v "$PWD/runs:/bench/runs" -v "$PWD/reports:/bench/reports" -v "$PWD/data:/data" \
#       ddpm-bench run suites/digits_quickstart.toml
#
# The container runs as user 1000, to whom the mounted folders must be writable.

# The CUDA version of PyPI's torch wheels, which bring their own copies of the mathematical libraries.
ARG CUDA=13.0.2-runtime
FROM nvidia/cuda:${CUDA}-ubuntu24.04

# gcc and Python's headers: torch.compile (training.compile = true) builds code when it runs.
# "ubuntu" is the user 1000 of the base image; a new volume takes the owner of the folder that it is mounted on.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o ubuntu -g ubuntu /bench /bench/runs /bench/reports /data /weights

ENV PATH=/opt/venv/bin:$PATH
WORKDIR /opt/ddpm-bench
RUN python3 -m venv /opt/venv

# The dependencies alone (the package has no modules yet): a layer that only a change of versions makes again.
COPY pyproject.toml constraints.txt LICENSE ./
RUN touch README.md && python3 -m pip install --no-cache-dir -c constraints.txt .

COPY README.md ./
COPY ddpm_bench ddpm_bench
RUN python3 -m pip install --no-cache-dir --no-deps --force-reinstall .

WORKDIR /bench
COPY --chown=ubuntu:ubuntu suites suites
ENV DDPM_BENCH_RUNS=/bench/runs DDPM_BENCH_DATA=/data DDPM_BENCH_WEIGHTS=/weights
VOLUME ["/bench/runs", "/bench/reports", "/data", "/weights"]
USER ubuntu

# `docker stop` interrupts the run as Ctrl-C does: the same command goes on where it stopped.
STOPSIGNAL SIGINT
ENTRYPOINT ["ddpm-bench"]
CMD ["--help"]
