# Serves an exported model; PyTorch is not in it.
#
#   docker build -t asr-bn .
#   docker run --rm -p 8000:8000 -v "$PWD/exp/mini/batch_norm/model.onnx:/models/model.onnx:ro" asr-bn
#
# With CUDA (the host needs the NVIDIA container toolkit):
#   docker build -t asr-bn:cuda --build-arg ONNXRUNTIME='onnxruntime-gpu[cuda,cudnn]>=1.27' .
#   docker run --rm --gpus all -p 8000:8000 -v ...:/models/model.onnx:ro asr-bn:cuda
FROM python:3.12-slim

ARG ONNXRUNTIME="onnxruntime>=1.27"

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin asr-bn

WORKDIR /src
COPY serve/requirements.txt serve/requirements.txt
RUN pip install --no-cache-dir -r serve/requirements.txt "$ONNXRUNTIME"
COPY pyproject.toml README.md LICENSE LICENCES.md ./
COPY asr_bn asr_bn
COPY serve serve
RUN pip install --no-cache-dir --no-deps .

# Where the CUDA and cuDNN wheels, if installed, keep their libraries
ENV LD_LIBRARY_PATH=/usr/local/lib/python3.12/site-packages/nvidia/cudnn/lib:/usr/local/lib/python3.12/site-packages/nvidia/cublas/lib:/usr/local/lib/python3.12/site-packages/nvidia/cuda_runtime/lib:/usr/local/lib/python3.12/site-packages/nvidia/cufft/lib:/usr/local/lib/python3.12/site-packages/nvidia/curand/lib:/usr/local/lib/python3.12/site-packages/nvidia/cu13/lib

# Every setting of the server is a variable: asr-bn serve --settings lists them
ENV ASR_BN_MODEL=/models/model.onnx ASR_BN_HOST=0.0.0.0 ASR_BN_PORT=8000

WORKDIR /
USER asr-bn
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['ASR_BN_PORT'] + '/healthz', timeout=2)"]
CMD ["asr-bn", "serve"]
