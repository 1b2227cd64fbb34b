"""The README's example: noisy digits to a one-step generator, with objects. About three minutes on two CPU cores."""

import sys

import torch

import restill
from restill.training import LearningRate, OptimiserSettings, run

quick = "--quick" in sys.argv  # a look at the code path, not at good images
law = restill.AdditiveNoise(sigma_n=0.4)
store = restill.corrupt_images(restill.digits(), law, out="digits-store", reference="digits-clean", seed=0)

net = restill.build_network("EDMPrecond", {
    "model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "model_channels": 32,
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "sigma_data": 0.75})  # fmt: skip
batches = restill.Batches(store, batch_size=128, seed=0, device=torch.device("cpu"))
images = 2_560 if quick else 192_000
adam = OptimiserSettings(LearningRate(1e-3, warmup=10_000, total=images, decay="cosine"))
settings = restill.TeacherSettings(images, optimiser=adam, ema_halflife=20_000)
teacher = restill.TeacherTraining(restill.Denoiser(net, 1, sigma_data=0.75), batches, law, settings, seed=0)
for progress in run(teacher):
    print("teacher", progress.row) if progress.row else None

adam = OptimiserSettings(LearningRate(1e-4), betas=(0.0, 0.999))
sid = restill.SiD(alpha=1.0)
settings = restill.DistillationSettings(images // 2, loss=sid, generator=adam, fake=adam, ema_halflife=10_000)
student = restill.Distillation(teacher.ema.module, law, store.image_shape, settings, seed=0, device=torch.device("cpu"))
for progress in run(student):
    print("student", progress.row) if progress.row else None

images = next(restill.generate(student.ema.module, restill.OneStep(2.5), range(64), store.image_shape, seed=0))
