"""Speed, side by side: each method against its bare U-Net calls and against diffusers. python -m benchmarks --help"""
