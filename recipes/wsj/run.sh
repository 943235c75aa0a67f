#!/usr/bin/env bash
# Train a bidirectional LSTM acoustic model with sequence-wise batch normalization and its baseline.
#
#   bash recipes/wsj/run.sh                            on the embedded corpus, "mini" (nothing else needed)
#   bash recipes/wsj/run.sh --kaldi egs/wsj/s5         on a Kaldi recipe folder with tri4b-like alignments
#
# Options (defaults in brackets):
#   --kaldi DIR            Kaldi recipe folder; the names below, and relative paths in wav.scp, start there
#   --train NAME           training data dir [data/train_si284]
#   --dev NAME             development data dir [data/test_dev93]
#   --train-ali DIR        alignments of the training set [exp/tri4b_ali_si284]
#   --dev-ali DIR          alignments of the development set [exp/tri4b_ali_dev93]
#   --graph DIR            decode the development set with this graph folder (HCLG.fst, words.txt) [the only
#                          <system>/graph* beside the alignments <system>_ali*; mini makes its own]
#   --wer-filter FILE      what text and words go through before errors are counted [with --kaldi the filters in its
#                          local/, as Kaldi's scoring; without any, local/wer_output_filter if the corpus is wsj]
#   --realign N            rounds of training anew from the batch-normalized network's own alignments [0]
#   --lang DIR             pronunciations for --realign: a lang folder, or one such as data/local/dict; for rescoring a lang
#                          folder with the graph's G.fst where the graph folder has none [data/lang]
#   --rescore-arpa FILE    decode once more, the words' costs in the lattices replaced by those of an ARPA file
#   --rescore-lm FILE      decode once more, the 100 best scored by a language model (lm-export's model.onnx) too
#   --corpus NAME          what the results call the corpus [mini, or after the Kaldi folder]
#   --config FILE          experiment [conf/mini.toml; with --kaldi conf/small_corpus.toml for less than a quarter of an hour of
#                          training speech, else conf/paper.toml on a GPU, conf/small.toml without]
#   --fbank-conf FILE      Kaldi's options of the features [conf/fbank_subtract_mean.conf with conf/small_corpus.toml, else
#                          conf/fbank.conf]
#   --out DIR              where everything goes [exp/<corpus>]
#   --seed N               seed of initial weights, batches and of mini's synthesis [1]
#   --num-seeds N          train both networks with N seeds, N, N+1, ..., for the spread in the report [3 for mini, else 1]
#   --minutes N            minutes of training speech in mini [30]
#   --dev-minutes N        minutes of development speech in mini [4]
#   --device auto|cpu|cuda [auto]
#   --nj N                 processes for features [number of cores]
#   --stage N              first stage [1]; --stop-stage N  last stage [10, and the rounds]
#
# Stages: 1 data, 2 features, 3 alignments, 4 training, 5 population statistics, 6 ONNX export, 7 parity,
# 8 decoding, 9 report, 10 server, 11 the first round of --realign, 12 the second, ...
# A stage that is done and complete is skipped; after a kill, run the same command again.
set -euo pipefail

recipe="$(cd "$(dirname "$0")" && pwd)"
command="bash recipes/wsj/run.sh${*:+ $*}"
usage() { sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0; }

# Options first: a mistake is told before an environment is set up.
python="$(. "$recipe/../../scripts/setup_env.sh" && find_python)"
settings="$("$python" "$recipe/local/options.py" "$@")"
eval "$settings"
root="${kaldi:-.}" given=("$config" "$fbank_conf")

. "$recipe/path.sh"

mkdir -p "$out" || { echo "run.sh: error: --out $out: cannot be made" >&2; exit 1; }
# One run at a time in a folder, also after a kill that left a stage running: its processes hold the lock.
if command -v flock > /dev/null; then
    exec 9> "$out/.lock"
    flock --nonblock 9 || { echo "run.sh: waiting for another run in $out" >&2; flock 9; }
fi

cores="$(python3 -c 'from asr_bn.system.cores import available_cores; print(available_cores())')"
nj="${nj:-$cores}"
if [ "$device" = auto ]; then
    device="$(command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1 && echo cuda || echo cpu)"
fi
data=(--data "$out/feats/train" --ali "$out/pdf/train" --dev-data "$out/feats/dev" --dev-ali "$out/pdf/dev")

at_stage() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ] && echo "run.sh: stage $1: $2" >&2; }

# The folder of each seed's two networks: the first seed's are the results, the others show the spread.
seed_dir() { [ "$1" -eq "$seed" ] && echo "$out" || echo "$out/seeds/$1"; }
seeds="$(seq "$seed" $((seed + num_seeds - 1)))"

train_network() { # NORM OUT_DIR SEED BAR_POSITION
    TQDM_POSITION="$4" asr-bn train "$config" "${data[@]}" --norm "$1" --out "$2" --seed "$3" --device "$device" --resume
}

train_pair() { # DIR SEED
    if [ "$device" = cuda ] || [ "$cores" -lt 2 ]; then
        train_network none "$1/baseline" "$2" 0
        train_network sequence "$1/batch_norm" "$2" 0
        return
    fi
    # A time step's products are too small for many threads: one network on each half of the cores is faster.
    local baseline
    export OMP_NUM_THREADS=$((cores / 2))
    train_network none "$1/baseline" "$2" 0 & baseline=$!
    train_network sequence "$1/batch_norm" "$2" 1 || { wait "$baseline" || true; return 1; }
    wait "$baseline"
    unset OMP_NUM_THREADS
}

choose_config() { # by what there is to train on
    local choice
    choice="$(python3 -m recipes.wsj.local.configuration "$out/feats/train" "$device" "$kaldi" "${given[@]}")"
    eval "$choice"
}

make_features() {
    asr-bn features "$train" "$out/feats/train" --root "$root" --nj "$nj" --fbank-conf "$fbank_conf"
    asr-bn features "$dev" "$out/feats/dev" --root "$root" --nj "$nj" --fbank-conf "$fbank_conf"
}

if [ -z "$kaldi" ] && at_stage 1 "synthesize and align the embedded corpus"; then
    python3 -m recipes.mini.make_data "$out/corpus" --minutes "$minutes" --dev-minutes "$dev_minutes" --seed "$seed"
    python3 -m recipes.mini.align "$out/corpus"
fi

if [ -n "$kaldi" ] && [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
    python3 -m recipes.wsj.local.copy_model "$train_ali"
    python3 -m recipes.wsj.local.copy_model "$dev_ali"
fi

choose_config
if at_stage 2 "log-mel filterbanks and energy"; then
    make_features
    # Only now is it known how much there is.
    made_with="$fbank_conf"
    choose_config
    [ "$fbank_conf" = "$made_with" ] || make_features
fi
[ -z "$why" ] || echo "run.sh: $why" >&2

if at_stage 3 "alignments to pdf-ids"; then
    asr-bn alignments "$train_ali" "ark:$out/pdf/train/pdf.ark"
    asr-bn alignments "$dev_ali" "ark:$out/pdf/dev/pdf.ark"
    python3 -m recipes.wsj.local.copy_model "$train_ali" "$out/pdf/train"
    python3 -m recipes.wsj.local.copy_model "$dev_ali" "$out/pdf/dev"
fi

if at_stage 4 "train the baseline and the batch-normalized network"; then
    for s in $seeds; do train_pair "$(seed_dir "$s")" "$s"; done
fi

if at_stage 5 "population statistics and final evaluation"; then
    for model in baseline batch_norm; do
        asr-bn finish "$out/$model" "${data[@]}" --device "$device"
    done
fi

if at_stage 6 "export to ONNX"; then
    for model in baseline batch_norm; do
        asr-bn export "$out/$model" "$out/$model/model.onnx"
    done
fi

if at_stage 7 "compare ONNX Runtime with PyTorch on the development set"; then
    for model in baseline batch_norm; do
        asr-bn parity "$out/$model" --data "$out/feats/dev"
    done
fi

[ -n "$kaldi" ] || graph="$out/graph"
if [ -z "$kaldi" ] && at_stage 8 "decoding graph of mini's grammar"; then
    asr-bn make-graph "$lang" "$out/corpus/exp/mono_ali_train" "$graph" --grammar "$lang/grammar.txt"
fi

decode_dev() { # MODEL_DIR NAME [OPTIONS]
    asr-bn decode "$1/model.onnx" "$graph" "$out/feats/dev" "$1/$2" --mdl "$out/pdf/dev/final.mdl" --nj "$nj" \
        ${wer_filter:+--wer-filter "$wer_filter"} "${@:3}"
}

if [ -n "$graph" ] && at_stage 8 "words and word error rate"; then
    rescoring=(${rescore_arpa:+--rescore-arpa "$rescore_arpa"} ${rescore_lm:+--rescore-lm "$rescore_lm"})
    [ ${#rescoring[@]} -eq 0 ] || [ ! -f "$lang/G.fst" ] || rescoring+=(--lang "$lang")
    for model in baseline batch_norm; do
        decode_dev "$out/$model" decode_dev
        [ ${#rescoring[@]} -eq 0 ] || decode_dev "$out/$model" decode_dev_rescored "${rescoring[@]}"
    done
fi

make_report() {
    local set boundaries=()
    for set in "$train_ali" "$dev_ali"; do
        [ ! -f "$set/boundary_accuracy.json" ] || boundaries+=(--boundary-accuracy "$set/boundary_accuracy.json")
    done
    asr-bn report "$out" --corpus "$corpus" --data "$out/feats/dev" --ali "$out/pdf/dev" --config "$config" \
        --command "$command" ${boundaries[@]+"${boundaries[@]}"}
}

if at_stage 9 "report"; then
    make_report
fi

if at_stage 10 "ask the server for posteriors over HTTP"; then
    asr-bn serve-check "$out/batch_norm" --data "$dev" --root "$root"
fi

for round in $(seq 1 "$realign"); do
    at_stage $((10 + round)) "align with the network and train anew, round $round" || continue
    for s in $seeds; do
        python3 -m recipes.wsj.local.realign "$(seed_dir "$s")" "$round" --seed "$s" --feats "$out/feats" --ali "$out/pdf" \
            --config "$config" --lang "$lang" --times "$train" "$dev" --device "$device" --nj "$nj" \
            ${graph:+--graph "$graph"} ${wer_filter:+--wer-filter "$wer_filter"}
    done
    make_report
done
